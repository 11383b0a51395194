#include "rank/recall_curve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "core/convert.hpp"
#include "core/error.hpp"
#include "io/index_directory.hpp"
#include "io/vector_source.hpp"
#include "io/vector_writer.hpp"
#include "rank/build_job.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"
#include "support/oracle.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kRows = 611;
constexpr std::int64_t kQueries = 23;
constexpr std::int64_t kD = 6;
constexpr std::int64_t kLists = 9;
constexpr std::int64_t kNeighbors = 12;

void write_vectors(const std::string& path, const std::vector<float>& values) {
  const auto rows = static_cast<std::int64_t>(values.size()) / kD;
  const auto writer = io::create_vector_file({path, ""}, rows, kD, DType::f32, true, false);
  writer->append(reinterpret_cast<const std::byte*>(values.data()), rows);
  writer->close();
}

/// An index and queries that all ranks see, and what an observer was told.
class RecallCurveTest : public testing::Test {
 protected:
  RecallCurveTest() {
    std::string path = own_.path();
    comm_.broadcast_text(path);
    folder_ = path;
    index_ = folder_ + "/index";
    if (comm_.is_root()) {
      write_vectors(folder_ + "/base.h5", exact_vectors::make(kRows, kD, 5));
      write_vectors(folder_ + "/queries.h5", queries_);
      SearchJobConfig build;
      build.base = build.queries = {{folder_ + "/base.h5", ""}};
      build.k = 1;
      build.index = "ivf" + std::to_string(kLists);
      build.build = IndexBuild{.training_rows = 500, .iterations = 3, .shards = 2};
      build.output = index_;
      build.engine = "cpu";
      build.memory_bytes = std::int64_t{256} << 20;
      build.threads = 1;
      run_build_job(build, comm::Communicator::self(), {});
    }
    comm_.barrier();
    manifest_ = io::read_index(index_);
  }
  ~RecallCurveTest() override { comm_.barrier(); }

  CurveTask task_of(std::vector<std::int64_t> nprobes) const {
    CurveTask task;
    task.nprobes = std::move(nprobes);
    task.repeats = 2;
    task.job.index_directory = index_;
    task.job.base = io::index_inputs(index_, manifest_);
    task.job.queries = {{folder_ + "/queries.h5", ""}};
    task.job.index = "ivf";
    task.job.k = kNeighbors;
    task.job.engine = "cpu";
    task.job.memory_bytes = std::int64_t{256} << 20;
    task.job.threads = 2;
    return task;
  }

  CurveObserver observer() {
    return {.loaded = [this](const CurveRun& run) { run_ = run; },
            .truth = [this](TopK exact, double) { truth_ = std::move(exact); },
            .point =
                [this](const CurvePoint& point, TopK answers) {
                  points_.push_back(point);
                  answers_[point.nprobe] = std::move(answers);
                }};
  }

  /// The answer inside the nearest lists by plain loops in double, and the rows in them.
  void expect_answers_inside_lists(std::int64_t nprobe, const TopK& answers, double rows_share) const {
    const io::IndexLists lists = io::read_lists(index_, manifest_);
    const auto stored = io::open_sources(io::index_inputs(index_, manifest_));
    const Matrix rows = to_float32(stored->read_matrix(0, kRows));
    std::vector<GlobalId> all_ids(kRows);
    stored->read_ids(0, kRows, all_ids);
    ASSERT_EQ(answers.nq(), kQueries);
    ASSERT_EQ(answers.k(), kNeighbors);
    std::int64_t compared = 0;
    for (std::int64_t q = 0; q < kQueries; ++q) {
      const float* query = &queries_[static_cast<std::size_t>(q * kD)];
      std::vector<std::pair<double, std::int64_t>> order;
      for (std::int64_t l = 0; l < kLists; ++l)
        order.emplace_back(
            oracle::distance(query, lists.centroids.view().as<float>().row(l), kD, oracle::Measure::l2), l);
      std::ranges::sort(order);
      std::vector<float> inside;
      std::vector<std::int64_t> ids;
      for (std::int64_t i = 0; i < nprobe; ++i) {
        const auto list = static_cast<std::size_t>(order[static_cast<std::size_t>(i)].second);
        for (std::int64_t row = lists.starts[list]; row < lists.starts[list + 1]; ++row) {
          const float* vector = rows.view().as<float>().row(row);
          inside.insert(inside.end(), vector, vector + kD);
          ids.push_back(all_ids[static_cast<std::size_t>(row)]);
        }
      }
      compared += std::ssize(ids);
      const oracle::Answer wanted =
          oracle::search(inside, {query, query + kD}, kD, kNeighbors, oracle::Measure::l2, ids);
      const ConstNeighborRow found = answers.row(q);
      EXPECT_TRUE(std::ranges::equal(found.neighbors, wanted.neighbors))
          << "nprobe " << nprobe << ", query " << q;
      EXPECT_TRUE(std::ranges::equal(found.distances, wanted.distances))
          << "nprobe " << nprobe << ", query " << q;
    }
    EXPECT_NEAR(rows_share, static_cast<double>(compared) / (kRows * kQueries), 1e-12) << "nprobe " << nprobe;
  }

  const comm::Communicator comm_ = comm::Communicator::world();
  const test::TemporaryFolder own_;
  const std::vector<float> queries_ = exact_vectors::make(kQueries, kD, 6);
  std::string folder_;
  std::string index_;
  io::IndexManifest manifest_;
  CurveRun run_;
  TopK truth_;
  std::vector<CurvePoint> points_;
  std::map<std::int64_t, TopK> answers_;
};

TEST_F(RecallCurveTest, answers_exactly_inside_the_lists_on_any_number_of_ranks) {
  run_recall_curve(task_of({1, 2, 5, kLists}), comm_, observer());
  if (!comm_.is_root()) {
    EXPECT_TRUE(points_.empty());
    return;
  }
  EXPECT_EQ(run_.shape.n_ranks, comm_.size());
  ASSERT_EQ(points_.size(), 4U);
  for (const CurvePoint& point : points_) {
    EXPECT_GT(point.seconds, 0);
    expect_answers_inside_lists(point.nprobe, answers_.at(point.nprobe), point.rows_share);
  }
  EXPECT_EQ(truth_, answers_.at(kLists));
}

TEST_F(RecallCurveTest, searches_no_truth_that_nobody_needs) {
  CurveTask task = task_of({3});
  task.needs_truth = false;
  run_recall_curve(task, comm_, observer());
  EXPECT_EQ(truth_.nq(), 0);
  EXPECT_EQ(points_.size(), comm_.is_root() ? 1U : 0U);
}

TEST_F(RecallCurveTest, refuses_an_index_that_does_not_stay_in_memory) {
  CurveTask task = task_of({3});
  task.job.memory_bytes = 4000;
  test::expect_error(
      ErrorKind::config, [&] { run_recall_curve(task, comm_, observer()); }, "3.9 KiB", "a rank");
}

TEST_F(RecallCurveTest, refuses_an_index_that_is_searched_whole) {
  CurveTask task = task_of({1});
  task.job.index = "flat";
  test::expect_error(
      ErrorKind::usage, [&] { run_recall_curve(task, comm_, observer()); }, "nothing to sweep");
}

TEST_F(RecallCurveTest, makes_a_failure_of_its_observer_everybodys) {
  CurveObserver failing;
  failing.point = [](const CurvePoint&, TopK) { throw Error(ErrorKind::data, "no truth of these"); };
  test::expect_error(
      ErrorKind::data, [&] { run_recall_curve(task_of({1}), comm_, failing); }, "no truth of these");
}

}  // namespace
}  // namespace mpishards::rank
