#include "io/results_writer.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.hpp"
#include "support/expect_error.hpp"
#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::bytes_of;
using test::expect_error;

constexpr std::int64_t kQueries = 7;
constexpr std::int64_t kNeighbors = 3;
constexpr std::int64_t kMaxId = 1'000'000;

/// Answers whose ids and distances are known from their place.
TopK numbered_rows(std::int64_t begin, std::int64_t end, std::int64_t k = kNeighbors) {
  TopK rows(end - begin, k, Metric::l2);
  for (std::int64_t i = 0; i < (end - begin) * k; ++i) {
    rows.neighbors()[i] = begin * k + i;
    rows.distances()[i] = static_cast<float>(begin * k + i) * 0.5F;
  }
  return rows;
}

Attributes some_attributes() {
  return {{"metric", std::string("l2")},
          {"k", kNeighbors},
          {"seconds", 1.25},
          {"command_line", std::string("mpishards search --base 'größe.h5'")},
          {"base_identity", std::string(200'000, 'x')}};  // beyond what an object header holds
}

class Results : public testing::TestWithParam<ResultFormat> {
 protected:
  ResultFormat format() const { return GetParam(); }
  std::string out() const { return folder_ / ("r." + std::string(to_string(format()))); }

  void write_all(const std::string& path) const {
    const ResultLayout layout = create_result(path, format(), kQueries, kNeighbors, kMaxId);
    const ResultSlices slices(ResultLayout::deserialize(layout.serialize()));
    slices.write(0, numbered_rows(0, 2));
    slices.write(2, numbered_rows(2, kQueries));
    slices.sync();
  }

  test::TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Formats, Results,
                         testing::Values(ResultFormat::h5, ResultFormat::npy, ResultFormat::ibin,
                                         ResultFormat::csr),
                         [](const auto& format) { return std::string(to_string(format.param)); });

TEST_P(Results, come_back_as_they_were_written) {
  write_all(out());
  EXPECT_TRUE(partial_exists(out(), format()));
  for (const std::string& path : result_paths(out(), format())) EXPECT_FALSE(exists(path)) << path;
  publish_result(out(), format(), some_attributes());
  EXPECT_FALSE(partial_exists(out(), format()));
  for (const std::string& path : result_paths(out(), format())) EXPECT_TRUE(exists(path)) << path;

  const auto result = open_result(out());
  EXPECT_EQ(result->nq(), kQueries);
  EXPECT_EQ(result->k(), kNeighbors);
  EXPECT_TRUE(result->has_distances());
  EXPECT_EQ(result->attributes(), some_attributes());
  EXPECT_EQ(result->read(0, kQueries), numbered_rows(0, kQueries));
  EXPECT_EQ(result->read(2, 5), numbered_rows(2, 5));
  EXPECT_EQ(result->read(4, 4).nq(), 0);
}

TEST_P(Results, leave_nothing_beside_the_published_files) {
  write_all(out());
  publish_result(out(), format(), some_attributes());
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder_.path())) ++files;
  EXPECT_EQ(files, result_paths(out(), format()).size());
}

TEST_P(Results, slices_read_what_slices_wrote) {
  const ResultLayout layout = create_result(out(), format(), kQueries, kNeighbors, kMaxId);
  const ResultSlices slices(layout);
  TopK padded(1, kNeighbors, Metric::l2);
  padded.neighbors()[0] = 5;
  padded.distances()[0] = 0.25F;
  slices.write(6, padded);
  EXPECT_EQ(slices.read(6, 1, Metric::l2), padded);
}

TEST_P(Results, refuse_rows_beyond_their_shape) {
  const ResultSlices slices(create_result(out(), format(), kQueries, kNeighbors, kMaxId));
  expect_error(ErrorKind::internal, [&] { slices.write(6, numbered_rows(0, 2)); });
  expect_error(ErrorKind::internal, [&] { slices.write(0, numbered_rows(0, 1, 4)); });
}

TEST_P(Results, are_adopted_where_a_stopped_run_left_them) {
  const ResultLayout created = create_result(out(), format(), kQueries, kNeighbors, kMaxId);
  ResultSlices(created).write(0, numbered_rows(0, 3));
  const ResultLayout adopted = adopt_result(out(), format(), kQueries, kNeighbors);
  EXPECT_EQ(adopted.serialize(), created.serialize());
  EXPECT_EQ(ResultSlices(adopted).read(0, 3, Metric::l2), numbered_rows(0, 3));
}

TEST_P(Results, of_another_shape_are_not_adopted) {
  create_result(out(), format(), kQueries, kNeighbors, kMaxId);
  expect_error(
      ErrorKind::data, [&] { adopt_result(out(), format(), kQueries, kNeighbors + 1); }, "--no-resume");
}

TEST_P(Results, replace_what_an_abandoned_run_left) {
  create_result(out(), format(), 1000, 50, kMaxId);
  write_all(out());
  publish_result(out(), format(), {});
  EXPECT_EQ(open_result(out())->read(0, kQueries), numbered_rows(0, kQueries));
}

TEST_P(Results, payload_depends_on_shape_and_values_alone) {
  const std::string other = folder_ / ("other." + std::string(to_string(format())));
  write_all(out());
  create_result(other, format(), 1000, 50, kMaxId);
  const ResultLayout layout = create_result(other, format(), kQueries, kNeighbors, kMaxId);
  for (const std::int64_t q : {6, 2, 0, 1, 5, 3, 4}) ResultSlices(layout).write(q, numbered_rows(q, q + 1));
  publish_result(out(), format(), some_attributes());
  publish_result(other, format(), some_attributes());
  const auto first = result_paths(out(), format());
  const auto second = result_paths(other, format());
  for (std::size_t i = 0; i < first.size(); ++i)
    EXPECT_EQ(bytes_of(first[i]), bytes_of(second[i])) << first[i];
}

TEST_P(Results, can_have_no_queries) {
  create_result(out(), format(), 0, kNeighbors, kMaxId);
  adopt_result(out(), format(), 0, kNeighbors);
  publish_result(out(), format(), {});
  for (const std::string& path : result_paths(out(), format())) EXPECT_TRUE(exists(path)) << path;
}

TEST_P(Results, missing_folder_is_named) {
  expect_error(
      ErrorKind::cannot_create, [&] { create_result(folder_ / "no/such/r.h5", format(), 1, 1, 1); },
      "no/such of output ");
}

TEST_P(Results, a_folder_is_no_output) {
  expect_error(
      ErrorKind::cannot_create, [&] { create_result(folder_.path(), format(), 1, 1, 1); }, "is a directory");
}

TEST_P(Results, unwritable_folder_is_a_matter_of_permission) {
  // A root user may write everywhere, so the question is asked as somebody else, in a process of its own.
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0555));
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) ::_exit(1);
    try {
      create_result(out(), format(), 1, 1, 1);
    } catch (const Error& error) {
      ::_exit(exit_code(error.kind()));
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  EXPECT_EQ(WEXITSTATUS(status), 77);
}

TEST_P(Results, full_disk_is_noticed_before_any_work) {
  if (format() == ResultFormat::ibin) GTEST_SKIP() << "sizes of an ibin file end below any disk that is full";
  expect_error(
      ErrorKind::cannot_create, [&] { create_result(out(), format(), std::int64_t{1} << 45, 1000, 1); },
      format() == ResultFormat::csr ? "disk full: needs 422493940042694664 bytes, "  // with the row starts
                                    : "disk full: needs 422212465065984000 bytes, ",
      "are free on " + folder_.path());
  EXPECT_FALSE(partial_exists(out(), format()));
}

TEST(ResultSlices, that_this_host_does_not_see_are_an_error) {
  const test::TemporaryFolder folder;
  ResultLayout layout = create_result(folder / "r.h5", ResultFormat::h5, 1, 1, 1);
  layout.neighbors_path = folder / "elsewhere.partial";
  expect_error(ErrorKind::io, [&] { const ResultSlices slices(layout); });
}

TEST(Hdf5Results, space_is_reserved_at_creation) {
  const test::TemporaryFolder folder;
  create_result(folder / "r.h5", ResultFormat::h5, 1000, 100, 1);
  EXPECT_GE(std::filesystem::file_size(folder / "r.h5.partial"), 1000U * 100 * 12);
}

/// What a run that is killed while HDF5 changes the file may leave: anything around the arrays.
TEST(Hdf5Results, publication_killed_half_way_is_undone_at_adoption) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.h5";
  const ResultLayout layout = create_result(out, ResultFormat::h5, kQueries, kNeighbors, kMaxId);
  ResultSlices(layout).write(0, numbered_rows(0, kQueries));
  // A copy publishes; its saved metadata is caught by making the rename impossible.
  std::filesystem::create_directory(out);
  expect_error(ErrorKind::cannot_create, [&] { publish_result(out, ResultFormat::h5, some_attributes()); });
  std::filesystem::remove(out);
  std::fstream(out + ".partial", std::ios::in | std::ios::out | std::ios::binary).write("torn", 4);

  const ResultLayout adopted = adopt_result(out, ResultFormat::h5, kQueries, kNeighbors);
  EXPECT_EQ(adopted.serialize(), layout.serialize());
  publish_result(out, ResultFormat::h5, some_attributes());
  EXPECT_EQ(open_result(out)->read(0, kQueries), numbered_rows(0, kQueries));
}

TEST(NpyResults, publication_killed_between_two_renames_is_undone_at_adoption) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "r.npy";
  const ResultLayout layout = create_result(out, ResultFormat::npy, kQueries, kNeighbors, kMaxId);
  ResultSlices(layout).write(0, numbered_rows(0, kQueries));
  publish(folder / "r.neighbors.npy.partial", folder / "r.neighbors.npy");
  EXPECT_TRUE(partial_exists(out, ResultFormat::npy));
  const ResultLayout adopted = adopt_result(out, ResultFormat::npy, kQueries, kNeighbors);
  EXPECT_EQ(ResultSlices(adopted).read(0, kQueries, Metric::l2), numbered_rows(0, kQueries));
}

TEST(IbinResults, refuse_ids_beyond_32_bits) {
  const test::TemporaryFolder folder;
  expect_error(
      ErrorKind::usage,
      [&] { create_result(folder / "r.ibin", ResultFormat::ibin, 1, 1, std::int64_t{1} << 31); },
      "2147483648");
}

TEST(IbinResults, have_the_big_ann_layout) {
  const test::TemporaryFolder folder;
  const ResultLayout layout = create_result(folder / "r.ibin", ResultFormat::ibin, 1, 2, 9);
  TopK rows(1, 2, Metric::l2);
  rows.neighbors()[0] = 9;
  rows.distances()[0] = 1.0F;
  ResultSlices(layout).write(0, rows);
  publish_result(folder / "r.ibin", ResultFormat::ibin, {});
  const std::string expected("\1\0\0\0\2\0\0\0\x9\0\0\0\xff\xff\xff\xff\0\0\x80\x3f\0\0\x80\x7f", 24);
  EXPECT_EQ(bytes_of(folder / "r.ibin"), expected);
}

TEST(ResultFormat, follows_the_suffix_and_has_names) {
  EXPECT_EQ(result_format_of("a/b.npy"), ResultFormat::npy);
  EXPECT_EQ(result_format_of("b.ibin"), ResultFormat::ibin);
  EXPECT_EQ(result_format_of("b.hdf5"), ResultFormat::h5);
  EXPECT_EQ(result_format_of("b"), ResultFormat::h5);
  EXPECT_EQ(result_format_from_string("ibin"), ResultFormat::ibin);
  expect_error(ErrorKind::usage, [] { result_format_from_string("csv"); });
}

}  // namespace
}  // namespace mpishards::io
