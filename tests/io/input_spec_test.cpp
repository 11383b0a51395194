#include "io/input_spec.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "support/expect_error.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::expect_error;
using test::TemporaryFolder;

TEST(InputSpec, splits_file_and_data_set) {
  EXPECT_EQ(parse_input_spec("a.h5"), (InputSpec{"a.h5", ""}));
  EXPECT_EQ(parse_input_spec("a.h5:train"), (InputSpec{"a.h5", "train"}));
  EXPECT_EQ(parse_input_spec("dir:x/a.HDF5:/deep/train"), (InputSpec{"dir:x/a.HDF5", "/deep/train"}));
  EXPECT_EQ(parse_input_spec("part*.h5:train"), (InputSpec{"part*.h5", "train"}));
  EXPECT_EQ(parse_input_spec("host:a.fbin"), (InputSpec{"host:a.fbin", ""}));
  EXPECT_EQ(to_string(parse_input_spec("a.h5:train")), "a.h5:train");
}

TEST(InputSpec, prefers_what_exists) {
  const TemporaryFolder folder;
  const std::string with_colon = folder.write("a.h5:b", "");
  EXPECT_EQ(parse_input_spec(with_colon), (InputSpec{with_colon, ""}));
  const std::string plain = folder.write("matrix", "");
  EXPECT_EQ(parse_input_spec(plain + ":train"), (InputSpec{plain, "train"}));
}

TEST(ExpandInputs, globs_are_sorted_and_get_the_default_data_set) {
  const TemporaryFolder folder;
  for (const char* name : {"p2.h5", "p10.h5", "p1.h5", "q.fbin"}) folder.write(name, "");
  const std::vector<InputSpec> expected = {{folder / "p1.h5", "train"},
                                           {folder / "p10.h5", "train"},
                                           {folder / "p2.h5", "train"},
                                           {folder / "q.fbin", ""},
                                           {folder / "p1.h5", "x"}};
  EXPECT_EQ(expand_inputs({folder / "p*.h5", folder / "q.fbin", folder / "p[1].h5:x"}, "train"), expected);
}

TEST(ExpandInputs, lists_are_read_relative_to_their_folder) {
  const TemporaryFolder folder;
  folder.write("p1.h5", "");
  folder.write("p2.h5", "");
  const std::string list =
      folder.write("list.txt", "# comment\n\n p1.h5:a  # the first\r\np*.h5\n/elsewhere/x#1.fbin\n");
  const std::vector<InputSpec> expected = {{folder / "p1.h5", "a"},
                                           {folder / "p1.h5", "train"},
                                           {folder / "p2.h5", "train"},
                                           {"/elsewhere/x#1.fbin", ""}};
  EXPECT_EQ(expand_inputs({"@" + list}, "train"), expected);
}

TEST(ExpandInputs, refuses_globs_without_a_file_and_empty_lists) {
  const TemporaryFolder folder;
  expect_error(
      ErrorKind::input_missing, [&] { expand_inputs({folder / "*.h5"}, "train"); }, "*.h5");
  expect_error(
      ErrorKind::input_missing, [&] { expand_inputs({"@" + (folder / "none.txt")}, "train"); }, "none.txt");
  const std::string list = folder.write("list.txt", "# nothing\n");
  expect_error(
      ErrorKind::usage, [&] { expand_inputs({"@" + list}, "train"); }, "no input files");
  expect_error(
      ErrorKind::usage, [&] { expand_inputs({}, "train"); }, "no input files");
}

TEST(Identify, sees_changes_of_size_time_and_ends) {
  const TemporaryFolder folder;
  std::string bytes(200'000, 'a');
  const InputIdentity before = identify(folder.write("x", bytes));
  EXPECT_EQ(before.size_bytes, 200'000);
  EXPECT_GT(before.mtime_ns, std::int64_t{1'500'000'000} * 1'000'000'000);
  EXPECT_EQ(identify(folder / "x"), before);
  for (const std::size_t changed : {std::size_t{0}, bytes.size() - 1}) {
    std::string other = bytes;
    other[changed] = 'b';
    EXPECT_NE(identify(folder.write("x", other)).checksum, before.checksum);
  }
  EXPECT_NE(identify(folder.write("x", bytes + "a")).checksum, before.checksum);
  EXPECT_EQ(identify(folder.write("empty", "")).size_bytes, 0);
  expect_error(
      ErrorKind::input_missing, [&] { identify(folder / "none"); }, "none");
}

}  // namespace
}  // namespace mpishards::io
