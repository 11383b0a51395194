#include <gtest/gtest.h>

#include <fstream>

#include "answer_fixture.hpp"
#include "app/commands/commands.hpp"
#include "io/journal.hpp"
#include "support/expect_error.hpp"
#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::app {
namespace {

using test::bytes_of;
using test::Rows;

constexpr std::int64_t kBaseRows = 90;

int merge(const Arguments& arguments) {
  testing::internal::CaptureStdout();
  try {
    const int code = run_merge(arguments, comm::Communicator());
    testing::internal::GetCapturedStdout();
    return code;
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
}

template <class... Texts>
void expect_refusal(ErrorKind kind, const Arguments& arguments, const Texts&... texts) {
  test::expect_error(
      kind, [&] { merge(arguments); }, texts...);
}

/// Parts of one base with many ties, as an array job would leave them.
class Merge : public testing::TestWithParam<Metric> {
 protected:
  Merge() {
    base_.write(folder_ / "base.fbin");
    queries_.write(folder_ / "queries.fbin");
  }

  TopK answer(std::int64_t begin, std::int64_t end) const {
    return test::right_answer(base_, queries_, GetParam(), 10, begin, end);
  }
  io::Attributes attributes(const TopK& rows, std::int64_t begin, std::int64_t end) const {
    return test::search_attributes(rows, folder_ / "base.fbin", folder_ / "queries.fbin", begin, end,
                                   kBaseRows, 4);
  }
  std::string part(std::int64_t begin, std::int64_t end, const std::string& suffix = ".h5") const {
    const std::string path = folder_ / ("part." + std::to_string(begin) + suffix);
    const TopK rows = answer(begin, end);
    test::write_result(path, rows, attributes(rows, begin, end));
    return path;
  }
  std::string out(const std::string& suffix = ".h5") const { return folder_ / ("merged" + suffix); }

  test::TemporaryFolder folder_;
  Rows base_ = Rows::whole_numbers(kBaseRows, 4, 1);
  Rows queries_ = Rows::whole_numbers(15, 4, 2);
};

INSTANTIATE_TEST_SUITE_P(Metrics, Merge, testing::Values(Metric::l2, Metric::ip, Metric::cosine),
                         [](const auto& metric) { return std::string(to_string(metric.param)); });

TEST_P(Merge, equals_the_result_of_one_job) {
  // The last part has fewer rows than k, one is empty, and they come in any order.
  EXPECT_EQ(merge({part(85, 90), part(0, 40), part(41, 85, ".ibin"), part(40, 41, ".npy"), "-o", out()}), 0);
  const auto merged = io::open_result(out());
  EXPECT_EQ(merged->read(0, merged->nq()), answer(0, kBaseRows));
  EXPECT_EQ(std::get<std::int64_t>(merged->attributes().at("base_begin")), 0);
  EXPECT_EQ(std::get<std::int64_t>(merged->attributes().at("base_end")), kBaseRows);
  EXPECT_EQ(std::get<std::int64_t>(merged->attributes().at("n_ranks")), 8);
  EXPECT_FALSE(merged->attributes().contains("base_covered"));
  EXPECT_FALSE(io::exists(out() + ".lock"));
  EXPECT_FALSE(io::exists(out() + ".partial"));
}

TEST_P(Merge, writes_the_same_payload_bytes_in_every_format) {
  const std::vector<std::string> parts = {part(0, 30), part(30, 90)};
  const TopK whole = answer(0, kBaseRows);
  for (const std::string suffix : {".npy", ".ibin"}) {
    const std::string single = folder_ / ("single" + suffix);
    test::write_result(single, whole, attributes(whole, 0, kBaseRows));
    EXPECT_EQ(merge({parts[0], parts[1], "-o", out(suffix)}), 0);
    const auto expected = io::result_paths(single, io::result_format_of(single));
    const auto found = io::result_paths(out(suffix), io::result_format_of(single));
    for (std::size_t i = 0; i + 1 < expected.size(); ++i)  // all but the attributes
      EXPECT_EQ(bytes_of(found[i]), bytes_of(expected[i])) << found[i];
  }
}

TEST_P(Merge, names_missing_rows) {
  const std::string first = part(0, 20);
  const std::string third = part(50, 80);
  expect_refusal(ErrorKind::data, {first, third, "-o", out()}, "[20, 50) [80, 90)");
  EXPECT_FALSE(io::exists(out()));

  EXPECT_EQ(merge({first, third, "-o", out(), "--allow-partial"}), 0);
  EXPECT_EQ(std::get<std::string>(io::open_result(out())->attributes().at("base_covered")),
            "[0, 20) [50, 80)");
  testing::internal::CaptureStdout();
  EXPECT_THROW(run_eval({out(), "--oracle", "all"}, comm::Communicator()), Error);
  testing::internal::GetCapturedStdout();
}

TEST_P(Merge, refuses_overlap_and_repetition) {
  const std::string first = part(0, 50);
  expect_refusal(ErrorKind::data, {first, part(40, 90), "-o", out()}, "overlap");
  expect_refusal(ErrorKind::data, {first, first, "-o", out(), "--allow-partial"});
}

TEST_P(Merge, refuses_parts_of_different_searches) {
  const std::string first = part(0, 50);
  const TopK rows = answer(50, kBaseRows);
  const auto changed = [&](const std::string& name, const io::Attribute& value) {
    io::Attributes other = attributes(rows, 50, kBaseRows);
    other[name] = value;
    test::write_result(folder_ / "other.h5", rows, other);
    expect_refusal(ErrorKind::data, {first, folder_ / "other.h5", "-o", out()}, "differ in " + name);
  };
  changed("metric", std::string(GetParam() == Metric::l2 ? "ip" : "l2"));
  changed("k", std::int64_t{11});
  changed("query_begin", std::int64_t{1});
  changed("queries_identity", std::string("[]"));
  changed("base_identity", std::string("[]"));
  EXPECT_FALSE(io::exists(out()));
}

TEST_P(Merge, overwrites_only_when_told) {
  const std::vector<std::string> parts = {part(0, 30), part(30, 90)};
  std::ofstream(out()) << "precious";
  expect_refusal(ErrorKind::cannot_create, {parts[0], parts[1], "-o", out()});
  EXPECT_EQ(bytes_of(out()), "precious");
  EXPECT_EQ(merge({parts[0], parts[1], "-o", out(), "--overwrite"}), 0);
  EXPECT_EQ(io::open_result(out())->nq(), 15);
}

TEST_P(Merge, never_takes_a_part_for_the_output) {
  const std::string first = part(0, 30);
  const std::string before = bytes_of(first);
  expect_refusal(ErrorKind::usage, {first, part(30, 90), "-o", first, "--overwrite"}, first,
                 "input and output");
  EXPECT_EQ(bytes_of(first), before);
}

TEST_P(Merge, leaves_a_stopped_search_alone) {
  std::ofstream(out() + ".journal") << "{}";
  expect_refusal(ErrorKind::cannot_create, {part(0, 90), "-o", out()}, "stopped search", ".journal");
}

TEST_P(Merge, waits_for_nobody_who_writes_the_same_output) {
  const io::OutputLock lock = io::OutputLock::acquire(out());
  expect_refusal(ErrorKind::cannot_create, {part(0, 90), "-o", out()});
}

TEST_P(Merge, refuses_nonsense) {
  expect_refusal(ErrorKind::usage, {});
  expect_refusal(ErrorKind::usage, {"-o", out()});
  expect_refusal(ErrorKind::usage, {part(0, 90)});
  expect_refusal(ErrorKind::input_missing, {folder_ / "no.h5", "-o", out()});
  expect_refusal(ErrorKind::cannot_create, {part(0, 90), "-o", folder_ / "no/such/folder.h5"});
  expect_refusal(ErrorKind::usage, {part(0, 90), "-o", out(), "--format", "csv"});
}

}  // namespace
}  // namespace mpishards::app
