#include <gtest/gtest.h>
#include <hdf5.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "answer_fixture.hpp"
#include "app/commands/commands.hpp"
#include "support/expect_error.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::app {
namespace {

using nlohmann::json;
using test::Rows;

struct Outcome {
  int code = 0;
  std::string text;
  std::string last_line() const {
    const std::size_t end = text.find_last_not_of('\n') + 1;
    const std::size_t begin = text.rfind('\n', end - 1);
    return text.substr(begin == std::string::npos ? 0 : begin + 1,
                       end - (begin == std::string::npos ? 0 : begin + 1));
  }
};

Outcome eval(const Arguments& arguments) {
  testing::internal::CaptureStdout();
  Outcome outcome;
  try {
    outcome.code = run_eval(arguments, comm::Communicator());
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  outcome.text = testing::internal::GetCapturedStdout();
  return outcome;
}

template <class... Parts>
void expect_refusal(ErrorKind kind, const Arguments& arguments, const Parts&... parts) {
  test::expect_error(
      kind, [&] { eval(arguments); }, parts...);
}

/// A truth file as ann-benchmarks writes it: int32 ids, float64 distances, `distance` as a fixed-length
/// string.
void write_ann_truth(const std::string& path, const TopK& answer, double (*written)(double),
                     const char* distance) {
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hsize_t shape[2] = {static_cast<hsize_t>(answer.nq()), static_cast<hsize_t>(answer.k())};
  const hid_t space = H5Screate_simple(2, shape, nullptr);
  std::vector<std::int32_t> ids;
  std::vector<double> distances;
  for (std::int64_t i = 0; i < answer.nq() * answer.k(); ++i) {
    ids.push_back(static_cast<std::int32_t>(answer.neighbors()[i]));
    distances.push_back(written(static_cast<double>(answer.distances()[i])));
  }
  const hid_t neighbors =
      H5Dcreate2(file, "neighbors", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(neighbors, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, ids.data());
  const hid_t array =
      H5Dcreate2(file, "distances", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  H5Dwrite(array, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, distances.data());
  if (distance != nullptr) {
    const std::string text = distance;
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, text.size());
    const hid_t scalar = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(file, "distance", type, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, text.data());
    H5Aclose(attribute);
    H5Sclose(scalar);
    H5Tclose(type);
  }
  H5Dclose(neighbors);
  H5Dclose(array);
  H5Sclose(space);
  H5Fclose(file);
}

double square_root(double value) {
  return std::sqrt(value);
}
double one_minus(double value) {
  return 1.0 - value;
}

/// A right result of a search, with its inputs, on disk.
class Eval : public testing::Test {
 protected:
  Eval() {
    base_.write(base_path());
    queries_.write(queries_path());
    write(answer_);
  }
  std::string base_path() const { return folder_ / "base.fbin"; }
  std::string queries_path() const { return folder_ / "queries.fbin"; }
  std::string result() const { return folder_ / "result.h5"; }
  void write(const TopK& answer) const {
    test::write_result(
        result(), answer,
        test::search_attributes(answer, base_path(), queries_path(), 0, base_.rows, base_.rows, 6));
  }
  TopK right(Metric metric) const { return test::right_answer(base_, queries_, metric, 8, 0, base_.rows); }

  test::TemporaryFolder folder_;
  Rows base_ = Rows::normal(80, 6, 1);
  Rows queries_ = Rows::normal(9, 6, 2);
  TopK answer_ = right(Metric::l2);
};

TEST_F(Eval, recognises_square_roots_by_attribute) {
  write_ann_truth(folder_ / "truth.hdf5", answer_, square_root, "euclidean");
  const Outcome outcome =
      eval({result(), folder_ / "truth.hdf5", "--at", "1,4", "--json", "--expect", "exact"});
  EXPECT_EQ(outcome.code, 0);
  const json out = json::parse(outcome.text);
  EXPECT_EQ(out["schema"], "mpishards.eval/1");
  EXPECT_EQ(out["truth_distances"], "Euclidean (square root of l2)");
  EXPECT_EQ(out["recognised"], "by its attribute distance = euclidean");
  EXPECT_EQ(out["identical_queries"], 9);
  ASSERT_EQ(out["at"].size(), 3U);
  EXPECT_EQ(out["at"][2]["at"], 8);
  for (const json& at : out["at"]) {
    EXPECT_EQ(at["recall"], 1.0);
    EXPECT_EQ(at["recall_by_id"], 1.0);
    EXPECT_NEAR(at["distance_ratio"].get<double>(), 1.0, 1e-6);
  }
}

TEST_F(Eval, recognises_square_roots_by_values) {
  write_ann_truth(folder_ / "truth.hdf5", answer_, square_root, nullptr);
  const json out = json::parse(eval({result(), folder_ / "truth.hdf5", "--json"}).text);
  EXPECT_EQ(out["truth_distances"], "Euclidean (square root of l2)");
  EXPECT_NE(out["recognised"].get<std::string>().find("72 of 72"), std::string::npos) << out["recognised"];
}

TEST_F(Eval, recognises_angular_distances) {
  write(right(Metric::cosine));
  for (const char* attribute : {"angular", static_cast<const char*>(nullptr)}) {
    write_ann_truth(folder_ / "truth.hdf5", right(Metric::cosine), one_minus, attribute);
    const json out = json::parse(eval({result(), folder_ / "truth.hdf5", "--json"}).text);
    EXPECT_EQ(out["truth_distances"], "angular (1 - cosine)");
    EXPECT_EQ(out["at"].back()["recall"], 1.0);
  }
}

TEST_F(Eval, refuses_the_truth_of_another_metric) {
  write_ann_truth(folder_ / "truth.hdf5", answer_, one_minus, "angular");
  expect_refusal(ErrorKind::data, {result(), folder_ / "truth.hdf5"});
}

TEST_F(Eval, refuses_a_truth_that_lacks_queries) {
  const TopK fewer = test::right_answer(base_, queries_.first(4), Metric::l2, 8, 0, base_.rows);
  write_ann_truth(folder_ / "truth.hdf5", fewer, square_root, "euclidean");
  expect_refusal(ErrorKind::data, {result(), folder_ / "truth.hdf5"}, "4 queries (0:4)", "9 queries (0:9)",
                 "--queries-range");
}

TEST_F(Eval, refuses_the_truth_of_vectors_of_another_dimension) {
  const std::string other = folder_ / "other.h5";
  test::write_result(
      other, answer_,
      test::search_attributes(answer_, base_path(), queries_path(), 0, base_.rows, base_.rows, 7));
  expect_refusal(ErrorKind::data, {result(), other}, "d = 7", "d = 6", "same vectors");
}

TEST_F(Eval, compares_as_many_neighbors_as_the_truth_has_and_trusts_no_more) {
  write_ann_truth(folder_ / "truth.hdf5", test::right_answer(base_, queries_, Metric::l2, 5, 0, base_.rows),
                  square_root, "euclidean");
  const Outcome outcome = eval({result(), folder_ / "truth.hdf5"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_NE(outcome.text.find("5 of 8 neighbors each"), std::string::npos) << outcome.text;
  const Outcome judged = eval({result(), folder_ / "truth.hdf5", "--expect", "exact"});
  EXPECT_EQ(judged.code, 65);
  EXPECT_TRUE(judged.last_line().starts_with("RESULT NOT TRUSTED: the truth has 5")) << judged.text;
  expect_refusal(ErrorKind::usage, {result(), folder_ / "truth.hdf5", "--at", "6"}, "recall@6", "has 8",
                 "has 5");
}

TEST_F(Eval, says_that_result_and_truth_are_swapped) {
  write_ann_truth(folder_ / "truth.hdf5", answer_, square_root, "euclidean");
  expect_refusal(ErrorKind::usage, {folder_ / "truth.hdf5", result()}, "RESULT first");
}

TEST_F(Eval, shows_the_first_difference_and_does_not_trust_it) {
  write_ann_truth(folder_ / "truth.hdf5", answer_, square_root, "euclidean");
  TopK wrong = answer_;
  wrong.row(3).neighbors[2] = 79;
  wrong.row(3).distances[2] = 1e4F;
  write(wrong);
  const Outcome outcome = eval({result(), folder_ / "truth.hdf5", "--expect", "exact"});
  EXPECT_EQ(outcome.code, 65);
  EXPECT_TRUE(outcome.last_line().starts_with("RESULT NOT TRUSTED")) << outcome.text;
  EXPECT_NE(outcome.text.find("query 3 at place 2"), std::string::npos) << outcome.text;
  EXPECT_NE(outcome.text.find(">79: 100"), std::string::npos) << outcome.text;
  EXPECT_EQ(eval({result(), folder_ / "truth.hdf5"}).code, 0) << "without --expect nothing is judged";
}

TEST_F(Eval, counts_another_tie_as_found) {
  TopK tied = answer_;
  tied.row(3).neighbors[7] = 1000;
  write_ann_truth(folder_ / "truth.hdf5", tied, square_root, "euclidean");
  const json out = json::parse(eval({result(), folder_ / "truth.hdf5", "--json"}).text);
  EXPECT_EQ(out["at"].back()["recall"], 1.0);
  EXPECT_LT(out["at"].back()["recall_by_id"], 1.0);
  EXPECT_EQ(out["tied_queries"], 1);
  EXPECT_EQ(out["different_queries"], 0);
}

TEST_F(Eval, compares_ids_alone_where_the_truth_has_no_distances) {
  std::ofstream file(folder_ / "truth.ibin", std::ios::binary);
  const std::uint32_t sizes[2] = {9, 8};
  file.write(reinterpret_cast<const char*>(sizes), sizeof sizes);
  for (std::int64_t i = 0; i < 72; ++i) {
    const auto id = static_cast<std::int32_t>(answer_.neighbors()[i]);
    file.write(reinterpret_cast<const char*>(&id), sizeof id);
  }
  file.close();
  const json out = json::parse(eval({result(), folder_ / "truth.ibin", "--json"}).text);
  EXPECT_EQ(out["truth_distances"], "none");
  EXPECT_EQ(out["at"].back()["recall_by_id"], 1.0);
  EXPECT_FALSE(out["at"].back().contains("recall"));
}

TEST_F(Eval, oracle_trusts_the_right_result) {
  for (const char* count : {"all", "0", "4", "1000"}) {
    const Outcome outcome = eval({result(), "--oracle", count});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(outcome.last_line(), "RESULT OK") << outcome.text;
  }
  EXPECT_EQ(json::parse(eval({result(), "--oracle", "4", "--json"}).text)["queries"], 4);
}

TEST_F(Eval, oracle_does_not_trust_a_wrong_one) {
  TopK wrong = answer_;
  std::swap(wrong.row(5).neighbors[0], wrong.row(5).neighbors[1]);
  write(wrong);
  const Outcome outcome = eval({result(), "--oracle", "all"});
  EXPECT_EQ(outcome.code, 65);
  EXPECT_TRUE(outcome.last_line().starts_with("RESULT NOT TRUSTED: query 5: ")) << outcome.text;
}

TEST_F(Eval, oracle_refuses_inputs_that_changed) {
  base_.values[0] += 1.0F;
  base_.write(base_path());
  expect_refusal(ErrorKind::data, {result(), "--oracle", "all"},
                 base_path() + " has changed since the search");
}

TEST_F(Eval, oracle_finds_inputs_that_moved) {
  std::filesystem::rename(base_path(), folder_ / "moved.fbin");
  expect_refusal(ErrorKind::input_missing, {result(), "--oracle", "all"}, "--base");
  EXPECT_EQ(eval({result(), "--oracle", "all", "--base", folder_ / "moved.fbin"}).code, 0);
}

TEST_F(Eval, oracle_finds_relative_inputs_in_the_folder_of_the_search) {
  io::Attributes attributes =
      test::search_attributes(answer_, base_path(), queries_path(), 0, base_.rows, base_.rows, 6);
  attributes["base"] = std::string("base.fbin");
  attributes["queries"] = std::string("queries.fbin");
  test::write_result(folder_ / "old.h5", answer_, attributes);
  expect_refusal(ErrorKind::input_missing, {folder_ / "old.h5", "--oracle", "all"}, "base.fbin", "--base");
  attributes["working_folder"] = folder_.path();
  test::write_result(folder_ / "new.h5", answer_, attributes);
  const Outcome outcome = eval({folder_ / "new.h5", "--oracle", "all"});
  EXPECT_EQ(outcome.last_line(), "RESULT OK") << outcome.text;
  EXPECT_NE(outcome.text.find("base " + base_path()), std::string::npos) << outcome.text;
  std::filesystem::remove(base_path());
  expect_refusal(ErrorKind::input_missing, {folder_ / "new.h5", "--oracle", "all"},
                 "nor in " + folder_.path());
}

TEST_F(Eval, refuses_nonsense) {
  expect_refusal(ErrorKind::usage, {});
  expect_refusal(ErrorKind::usage, {result()});
  expect_refusal(ErrorKind::usage, {result(), result(), "--oracle", "1"});
  expect_refusal(ErrorKind::usage, {result(), "--oracle", "some"});
  expect_refusal(ErrorKind::usage, {result(), result(), "--at", "1,x"});
  expect_refusal(ErrorKind::usage, {result(), result(), "--expect", "luck"});
  expect_refusal(ErrorKind::usage, {result(), result(), "--tolerance", "-1"}, "--tolerance");
  expect_refusal(ErrorKind::usage, {result(), "--oracle", "1", "--threads", "-1"}, "--threads");
  expect_refusal(ErrorKind::usage, {result(), "--oracle", "1", "--seed", "x"}, "--seed");
  expect_refusal(ErrorKind::input_missing, {folder_ / "no.h5", "--oracle", "1"});
  expect_refusal(ErrorKind::data, {folder_.write("text.h5", "not HDF5"), "--oracle", "1"});
  expect_refusal(ErrorKind::data, {folder_.write("short.ibin", "abcdefghijkl"), "--oracle", "1"});
}

}  // namespace
}  // namespace mpishards::app
