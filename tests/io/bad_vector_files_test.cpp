// Files that must be refused with a message, and damaged ones that must harm nobody.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "io/dataset_list.hpp"
#include "io/vector_source.hpp"
#include "support/data_folder.hpp"
#include "support/expect_error.hpp"
#include "support/hdf5_file.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::add_hdf5_dataset;
using test::expect_error;
using test::Hdf5DatasetPlan;
using test::TemporaryFolder;

template <class... T>
std::string bytes_of(T... values) {
  std::string bytes;
  (bytes.append(reinterpret_cast<const char*>(&values), sizeof(T)), ...);
  return bytes;
}

void read_everything(const InputSpec& spec) {
  const auto source = open_source(spec);
  source->read_matrix(0, source->rows());
  if (!source->has_ids()) return;
  std::vector<GlobalId> ids(static_cast<std::size_t>(source->rows()));
  source->read_ids(0, source->rows(), ids);
}

template <class... Parts>
void expect_refused(ErrorKind kind, const InputSpec& spec, const Parts&... parts) {
  expect_error(
      kind, [&] { read_everything(spec); }, parts...);
}

template <class... Parts>
void expect_bad_data(const InputSpec& spec, const Parts&... parts) {
  expect_refused(ErrorKind::data, spec, parts...);
}

Hdf5DatasetPlan float_plan(std::vector<hsize_t> dims) {
  Hdf5DatasetPlan plan;
  plan.dims = std::move(dims);
  plan.stored = H5T_IEEE_F32LE;
  plan.given = H5T_NATIVE_FLOAT;
  return plan;
}

TEST(BadFile, any_format_says_what_is_there_instead) {
  const TemporaryFolder folder;
  for (const char* name : {"a.h5", "a.fbin", "a.bvecs", "a.npy", "a.index"}) {
    const std::string path = folder / name;
    expect_refused(ErrorKind::input_missing, {path, ""}, path, "No such file");
    ASSERT_EQ(::mkdir(path.c_str(), 0777), 0);
    expect_bad_data({path, ""}, path, "a directory");
    ASSERT_EQ(::rmdir(path.c_str()), 0);
    ASSERT_EQ(::mkfifo(path.c_str(), 0666), 0);
    expect_bad_data({path, ""}, path, "a pipe");
    ASSERT_EQ(::unlink(path.c_str()), 0);
    folder.write(name, "");
    expect_bad_data({path, ""}, path, "is empty");
    folder.write(name, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 2580000\n");
    expect_bad_data({path, ""}, path, "Git LFS pointer", "git lfs pull");
    expect_bad_data({folder.write(name, "x"), ""}, path);
  }
  expect_refused(ErrorKind::usage, {folder.write("a.csv", "1,2"), ""}, "a.csv", ".fbin", ".h5");
  expect_refused(ErrorKind::input_missing, {folder / "b.csv", ""}, "b.csv");
  expect_refused(ErrorKind::usage, {folder.write("a.fbin", "1,2"), "train"}, "only HDF5");
}

TEST(BadFile, unreadable_file_is_a_permission_error) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  const TemporaryFolder folder;
  const std::string path = folder.write("a.fbin", "12345678");
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  expect_refused(ErrorKind::permission, {path, ""}, path);
}

TEST(BadXbin, header_must_say_the_size_of_the_file) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& bytes) { return InputSpec{folder.write("a.fbin", bytes), ""}; };
  const std::uint32_t max = std::numeric_limits<std::uint32_t>::max();
  expect_bad_data(write(bytes_of(3u)), "4 bytes", "header of 8");
  expect_bad_data(write(bytes_of(3u, 2u, 1.0F, 2.0F)), "3 x 2 f32", "24 bytes", "8 bytes follow",
                  "truncated");
  expect_bad_data(write(bytes_of(1u, 1u, 1.0F, 2.0F)), "1 x 1 f32", "longer");
  expect_bad_data(write(bytes_of(0u, 4u)), "0 x 4", "empty");
  expect_bad_data(write(bytes_of(4u, 0u)), "4 x 0", "empty");
  expect_bad_data(write(bytes_of(max, max, 1.0F)), "exceeds any file");
  EXPECT_NO_THROW(read_everything(write(bytes_of(2u, 1u, 1.0F, 2.0F))));
}

TEST(BadXvecs, names_the_row_that_differs) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& bytes) { return InputSpec{folder.write("a.fvecs", bytes), ""}; };
  const std::string row = bytes_of(2, 1.0F, 2.0F);
  expect_bad_data(write(bytes_of(0)), "d = 0");
  expect_bad_data(write(bytes_of(-5, 1.0F)), "d = -5");
  expect_bad_data(write(bytes_of(std::numeric_limits<int>::max(), 1.0F)), "d = 2147483647", "8 bytes");
  expect_bad_data(write(row + row + bytes_of(2, 1.0F)), "ends inside row 2", "truncated");
  expect_bad_data(write(row + bytes_of(3, 1.0F, 2.0F, 3.0F)), "row 1", "d = 3", "d = 2");
  expect_bad_data(write(row + row + bytes_of(5, 1.0F, 2.0F)), "row 2", "d = 5");
  expect_bad_data(write(row + bytes_of(7, 1.0F, 2.0F) + row), "row 1", "d = 7");
  EXPECT_NO_THROW(read_everything(write(row + row)));
}

std::string npy(const std::string& dictionary, const std::string& data, char version = 1) {
  std::string text = dictionary + "\n";
  std::string start = std::string("\x93NUMPY") + version + '\0';
  start += version == 1 ? bytes_of(static_cast<std::uint16_t>(text.size()))
                        : bytes_of(static_cast<std::uint32_t>(text.size()));
  return start + text + data;
}

TEST(BadNpy, says_what_the_array_is) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& bytes) { return InputSpec{folder.write("a.npy", bytes), ""}; };
  const std::string four = bytes_of(1.0F, 2.0F, 3.0F, 4.0F);
  const auto header = [](const std::string& descr, const std::string& order, const std::string& shape) {
    return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }";
  };
  expect_bad_data(write("plain text that is long enough"), "not a .npy file");
  expect_bad_data(write(npy(header("'<f4'", "True", "(2, 2)"), four)), "Fortran", "ascontiguousarray");
  expect_bad_data(write(npy(header("'|O'", "False", "(2, 2)"), four)), "Python objects");
  expect_bad_data(write(npy(header("'<u2'", "False", "(2, 4)"), four)), "'<u2'", "f4");
  expect_bad_data(write(npy(header("[('x', '<f4')]", "False", "(2, 2)"), four)), "structured");
  expect_bad_data(write(npy(header("'<f4'", "False", "(4,)"), four)), "1 dimensions", "expected 2");
  expect_bad_data(write(npy(header("'<f4'", "False", "(1, 2, 2)"), four)), "3 dimensions", "1 x 2 x 2");
  expect_bad_data(write(npy(header("'<f4'", "False", "(0, 4)"), "")), "empty");
  expect_bad_data(write(npy(header("'<f4'", "False", "(-2, 4)"), four)), "-2");
  expect_bad_data(write(npy(header("'<f4'", "False", "(3, 2)"), four)), "3 x 2 f32", "24 bytes",
                  "16 bytes follow");
  expect_bad_data(write(npy(header("'<f4'", "False", "(4611686018427387904, 4)"), four)), "exceeds any file");
  expect_bad_data(write(npy(header("'<f4'", "False", "(99999999999999999999, 4)"), four)), "unreadable size");
  expect_bad_data(write(npy("{'descr': '<f4'}", four)), "no 'fortran_order'");
  expect_bad_data(write(npy(header("'<f4'", "False", "(2, 2)"), four, 9)), "version 9");
  expect_bad_data(write(std::string("\x93NUMPY\x02\x00", 8) + bytes_of(0xffffffffu) + four),
                  "4294967295 bytes");
  for (const char version : {char{1}, char{2}, char{3}})
    EXPECT_NO_THROW(read_everything(write(npy(header("'<f4'", "False", "(2, 2)"), four, version))));
  const auto big =
      open_source(write(npy(header("'>f4'", "False", "(1, 1)"), std::string("\x3f\x80\x00\x00", 4))));
  EXPECT_EQ(big->read_matrix(0, 1).as<float>().data[0], 1.0F);
}

TEST(BadHdf5, text_renamed_says_how_it_starts) {
  const TemporaryFolder folder;
  expect_bad_data({folder.write("a.h5", "id,v0,v1,v2\n1,0.5,0.25\n"), ""}, "not an HDF5 file", "\"id,v0,v1");
  expect_bad_data({folder.write("a.h5", std::string("\x1f\x8b\x08\x00", 4)), ""}, "bytes 1f 8b 08 00");
}

TEST(BadHdf5, missing_data_set_lists_those_there_are) {
  const TemporaryFolder folder;
  const float values[4] = {};
  Hdf5DatasetPlan plan = float_plan({2, 2});
  for (const char* name : {"trian", "test", "deep/down/vectors"}) {
    plan.name = name;
    add_hdf5_dataset(folder / "a.h5", plan, values);
  }
  const std::string path = folder / "a.h5";
  expect_refused(ErrorKind::input_missing, {path, "train"}, "no data set train", "/trian", "/test",
                 "/deep/down/vectors", "did you mean " + path + ":/trian?");
  expect_refused(ErrorKind::input_missing, {path, "vectors"},
                 "did you mean " + path + ":/deep/down/vectors?");
  expect_refused(ErrorKind::input_missing, {path, "test/inner"}, "no data set test/inner");
  expect_refused(ErrorKind::input_missing, {path, "deep/nowhere/x"}, "no data set");
  expect_bad_data({path, "deep/down"}, "is a group");
  expect_bad_data({path, "/"}, "is a group");
  EXPECT_EQ(list_datasets(path), (std::vector<std::string>{"/deep/down/vectors", "/test", "/trian"}));
}

TEST(BadHdf5, shapes_other_than_two_dimensions_are_refused) {
  const TemporaryFolder folder;
  const float values[8] = {};
  int number = 0;
  const auto with_dims = [&](std::vector<hsize_t> dims) {
    const std::string path = folder / ("a" + std::to_string(number++) + ".h5");
    add_hdf5_dataset(path, float_plan(std::move(dims)), values);
    return InputSpec{path, ""};
  };
  expect_bad_data(with_dims({}), "0 dimensions", "expected 2");
  expect_bad_data(with_dims({8}), "1 dimension (8)");
  expect_bad_data(with_dims({2, 2, 2}), "3 dimensions (2 x 2 x 2)");
  expect_bad_data(with_dims({0, 4}), "empty", "0 x 4");
}

TEST(BadHdf5, types_that_are_no_numbers_are_refused) {
  const TemporaryFolder folder;
  const std::vector<char> zeros(64);
  int number = 0;
  const auto with_type = [&](hid_t type) {
    Hdf5DatasetPlan plan = float_plan({2, 2});
    plan.stored = plan.given = type;
    const std::string path = folder / ("a" + std::to_string(number++) + ".h5");
    add_hdf5_dataset(path, plan, zeros.data());
    return InputSpec{path, ""};
  };
  const H5Type compound(H5Tcreate(H5T_COMPOUND, 4), "H5Tcreate", "type");
  ASSERT_GE(H5Tinsert(compound.get(), "x", 0, H5T_NATIVE_FLOAT), 0);
  const H5Type text(H5Tcopy(H5T_C_S1), "H5Tcopy", "type");
  const H5Type enumeration(H5Tenum_create(H5T_NATIVE_INT8), "H5Tenum_create", "type");
  const signed char zero = 0;
  ASSERT_GE(H5Tenum_insert(enumeration.get(), "FALSE", &zero), 0);
  expect_bad_data(with_type(compound.get()), "compound", "expected numbers");
  expect_bad_data(with_type(text.get()), "string");
  expect_bad_data(with_type(enumeration.get()), "enumeration");
  expect_bad_data(with_type(H5T_NATIVE_LDOUBLE), "floating-point");
  expect_bad_data(with_type(H5T_STD_U64LE), "unsigned 64-bit");
}

TEST(BadHdf5, data_outside_the_file_or_never_written_are_refused) {
  const TemporaryFolder folder;
  const float values[8] = {};
  Hdf5DatasetPlan external = float_plan({4, 2});
  external.adjust = [&](hid_t creation) {
    H5Pset_external(creation, (folder / "raw.bin").c_str(), 0, H5F_UNLIMITED);
  };
  add_hdf5_dataset(folder / "external.h5", external, values);
  expect_bad_data({folder / "external.h5", ""}, "other files");

  add_hdf5_dataset(folder / "unwritten.h5", float_plan({1 << 30, 1 << 20}), nullptr);
  expect_bad_data({folder / "unwritten.h5", ""}, "never written");

  Hdf5DatasetPlan chunked = float_plan({1 << 20, 1 << 20});
  chunked.chunk = {64, 64};
  add_hdf5_dataset(folder / "holes.h5", chunked, nullptr);
  expect_bad_data({folder / "holes.h5", ""}, "0 of 268435456 chunks");

  Hdf5DatasetPlan virtual_plan = float_plan({4, 2});
  virtual_plan.adjust = [&](hid_t creation) {
    const hsize_t dims[2] = {4, 2};
    const H5Space space(H5Screate_simple(2, dims, nullptr), "H5Screate_simple", "space");
    H5Pset_virtual(creation, space.get(), (folder / "x.h5").c_str(), "train", space.get());
  };
  add_hdf5_dataset(folder / "virtual.h5", virtual_plan, nullptr);
  expect_bad_data({folder / "virtual.h5", ""}, "virtual");

  {
    const Hdf5Lock lock;
    const H5File file(H5Fcreate((folder / "link.h5").c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT),
                      "H5Fcreate", "link.h5");
    ASSERT_GE(H5Lcreate_external("holes.h5", "/train", file.get(), "train", H5P_DEFAULT, H5P_DEFAULT), 0);
    ASSERT_GE(H5Lcreate_soft("/train", file.get(), "alias", H5P_DEFAULT, H5P_DEFAULT), 0);
  }
  expect_bad_data({folder / "link.h5", "train"}, "link into another file");
  expect_refused(ErrorKind::input_missing, {folder / "link.h5", "alias"}, "no data set alias");
}

TEST(BadHdf5, every_truncation_is_refused) {
  const TemporaryFolder folder;
  std::vector<float> values(64 * 16);
  std::iota(values.begin(), values.end(), 0.0F);
  Hdf5DatasetPlan packed = float_plan({64, 16});
  packed.name = "packed";
  packed.chunk = {16, 16};
  packed.deflate = 1;
  add_hdf5_dataset(folder / "a.h5", float_plan({64, 16}), values.data());
  add_hdf5_dataset(folder / "a.h5", packed, values.data());
  const auto size = std::filesystem::file_size(folder / "a.h5");
  for (std::uintmax_t kept = size - 1; kept > 8; kept -= std::min<std::uintmax_t>(kept - 8, 97)) {
    std::filesystem::resize_file(folder / "a.h5", kept);
    expect_bad_data({folder / "a.h5", "train"}, "a.h5");
    expect_bad_data({folder / "a.h5", "packed"}, "a.h5");
  }
}

TEST(ProbeInChild, passes_good_files_and_other_formats) {
  const TemporaryFolder folder;
  const float values[4] = {};
  add_hdf5_dataset(folder / "a.h5", float_plan({2, 2}), values);
  EXPECT_NO_THROW(probe_in_child({folder / "a.h5", "train"}));
  EXPECT_NO_THROW(probe_in_child({folder / "nothing.fbin", ""}));
}

TEST(ProbeInChild, hands_on_the_kind_and_text_of_an_error) {
  const TemporaryFolder folder;
  const float values[4] = {};
  add_hdf5_dataset(folder / "a.h5", float_plan({2, 2}), values);
  expect_error(
      ErrorKind::input_missing,
      [&] {
        probe_in_child({folder / "a.h5", "tran"});
      },
      "a.h5", "/train");
  expect_error(
      ErrorKind::input_missing,
      [&] {
        probe_in_child({folder / "b.h5", "train"});
      },
      "b.h5");
  expect_error(
      ErrorKind::data,
      [&] {
        probe_in_child({folder.write("c.h5", "text"), "train"});
      },
      "not an HDF5");
}

TEST(ProbeInChild, survives_files_that_crash_the_library) {
  const auto data = test::data_folder();
  if (!data) GTEST_SKIP() << "no real data: set MPISHARDS_DATA";
  for (const char* name : {"cve-2018-13867.h5", "cve-2025-6269-1.h5"})
    expect_error(
        ErrorKind::data,
        [&] {
          probe_in_child({*data + "/robustness/" + name, "train"});
        },
        name);
}

/// Seconds and bytes that a reader of a small damaged file may take, many times what it needs.
constexpr rlim_t kMaxCpuSeconds = 10;
constexpr rlim_t kMaxNewBytes = rlim_t{1} << 30;

enum class Outcome : int { read = 10, refused = 11, wrong_kind = 12, not_an_error = 13 };

Outcome outcome_of(const InputSpec& spec) {
  try {
    probe_in_child(spec);
    read_everything(spec);
    return Outcome::read;
  } catch (const Error& error) {
    const bool fits = error.kind() == ErrorKind::data || error.kind() == ErrorKind::input_missing ||
                      error.kind() == ErrorKind::usage || error.kind() == ErrorKind::io;
    if (std::getenv("MPISHARDS_TEST_VERBOSE") != nullptr) std::fprintf(stderr, "  %s\n", error.what());
    return fits ? Outcome::refused : Outcome::wrong_kind;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "  %s: %s\n", to_string(spec).c_str(), error.what());
    return Outcome::not_an_error;
  }
}

void confine(rlim_t cpu_seconds, rlim_t new_bytes) {
  std::ifstream statm("/proc/self/statm");
  rlim_t pages = 0;
  statm >> pages;
  const rlim_t bytes = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + new_bytes;
  const rlimit cpu{cpu_seconds, cpu_seconds};
  const rlimit memory{bytes, bytes};
  const rlimit core{0, 0};
  ::setrlimit(RLIMIT_CPU, &cpu);
  ::setrlimit(RLIMIT_AS, &memory);
  ::setrlimit(RLIMIT_CORE, &core);
}

/// Reads in a child of its own, so that a crash, a hang or a huge allocation fails one check and not the test
/// run.
void expect_harmless(const InputSpec& spec) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    confine(kMaxCpuSeconds, kMaxNewBytes);
    ::alarm(25);  // its default action ends a child that waits for ever
    ::_exit(static_cast<int>(outcome_of(spec)));
  }
  const auto begin = std::chrono::steady_clock::now();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(took.count(), 30) << to_string(spec);
  if (std::getenv("MPISHARDS_TEST_VERBOSE") != nullptr)
    std::fprintf(stderr, "%6.2f s  %s\n", took.count(), to_string(spec).c_str());
  ASSERT_TRUE(WIFEXITED(status)) << to_string(spec) << ": " << ::strsignal(WTERMSIG(status));
  const int outcome = WEXITSTATUS(status);
  EXPECT_TRUE(outcome == static_cast<int>(Outcome::read) || outcome == static_cast<int>(Outcome::refused))
      << to_string(spec) << ": outcome " << outcome;
}

/// Data sets of a file that may crash the library: listed in a child, which answers over a file.
std::vector<std::string> datasets_of(const std::string& path, const TemporaryFolder& folder) {
  const std::string answer = folder.write("datasets", "");
  const pid_t child = ::fork();
  if (child == 0) {
    confine(3, kMaxNewBytes);
    try {
      std::ofstream out(answer);
      for (const std::string& name : list_datasets(path)) out << name << '\n';
    } catch (const std::exception&) {
      // nothing can be listed: the caller falls back on the default data set
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  std::vector<std::string> names = {""};
  std::ifstream in(answer);
  for (std::string name; std::getline(in, name);) names.push_back(name);
  return names;
}

TEST(DamagedFiles, crash_hang_or_flood_nobody) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP()
      << "the HDF5 library's own faults end the process under this sanitizer before our limits see them";
#endif
  const auto data = test::data_folder();
  if (!data) GTEST_SKIP() << "no real data: set MPISHARDS_DATA";
  const TemporaryFolder folder;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(*data + "/robustness")) {
    ++files;
    const std::string path = entry.path().string();
    for (const std::string& dataset : datasets_of(path, folder)) expect_harmless({path, dataset});
    if (path.ends_with(".bin")) {
      const std::string renamed = folder / "renamed.fbin";
      std::filesystem::copy_file(path, renamed, std::filesystem::copy_options::overwrite_existing);
      expect_harmless({renamed, ""});
    }
  }
  EXPECT_GT(files, 90);
}

TEST(DamagedFiles, made_from_real_data_are_refused_by_name) {
  const auto data = test::data_folder();
  if (!data) GTEST_SKIP() << "no real data: set MPISHARDS_DATA";
  const std::string folder = *data + "/robustness/";
  expect_bad_data({folder + "d-empty.fvecs", ""}, "is empty");
  expect_bad_data({folder + "d-header-count-too-large.fbin", ""}, "the header says", "truncated");
  expect_bad_data({folder + "d-mixed-dims.fvecs", ""}, "d-mixed-dims.fvecs row ", "d = ");
  expect_bad_data({folder + "d-truncated-mid-vector.fvecs", ""}, "ends inside row");
  expect_refused(ErrorKind::input_missing, {folder + "d-no-train.hdf5", ""}, "no data set train", "/test");
  expect_bad_data({folder + "d-train-compound.hdf5", ""}, "compound");
  expect_bad_data({folder + "lfs-pointer.fvecs", ""}, "Git LFS");
  expect_bad_data({folder + "numpy-py2-objarr.npy", ""}, "Python objects");
}

}  // namespace
}  // namespace mpishards::io
