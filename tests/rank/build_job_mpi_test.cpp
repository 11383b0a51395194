#include "rank/build_job.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "core/convert.hpp"
#include "core/error.hpp"
#include "io/faiss_layout.hpp"
#include "io/faiss_writer.hpp"
#include "io/index_directory.hpp"
#include "io/vector_source.hpp"
#include "io/vector_writer.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"
#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kRows = 1203;
constexpr std::int64_t kD = 7;
constexpr std::int64_t kLists = 12;

/// Larger is nearer, in double; what has no direction is similar to nothing.
double nearness(Metric metric, const float* a, const float* b) {
  double dot = 0;
  double gap = 0;
  double length_a = 0;
  double length_b = 0;
  for (std::int64_t j = 0; j < kD; ++j) {
    const double x = a[j];
    const double y = b[j];
    dot += x * y;
    gap += (x - y) * (x - y);
    length_a += x * x;
    length_b += y * y;
  }
  if (metric == Metric::l2) return -gap;
  if (metric == Metric::ip) return dot;
  return length_a * length_b > 0 ? dot / std::sqrt(length_a * length_b) : 0;
}

/// Files of the index but for the manifest, whose facts tell runs apart.
std::map<std::string, std::string> payload(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().filename() != "manifest.json")
      files[entry.path().filename()] = test::bytes_of(entry.path());
  return files;
}

class BuildJobTest : public testing::Test {
 protected:
  BuildJobTest() {
    std::string path = own_.path();
    comm_.broadcast_text(path);
    folder_ = path;
  }
  ~BuildJobTest() override { comm_.barrier(); }

  /// Small whole numbers; a base of its own ids where they are wanted.
  std::string write_base(DType dtype, bool with_ids) const {
    const std::string path = folder_ + "/base.h5";
    if (comm_.is_root()) {
      const std::vector<float> values = exact_vectors::make(kRows, kD, 3, dtype == DType::u8 ? 0 : -8, 8);
      std::vector<std::byte> stored(values.size() * size_bytes(dtype));
      convert_elements(DType::f32, reinterpret_cast<const std::byte*>(values.data()), dtype, stored.data(),
                       kRows * kD);
      const auto writer = io::create_vector_file({path, ""}, kRows, kD, dtype, true, with_ids);
      writer->append(stored.data(), kRows);
      std::vector<GlobalId> ids(kRows);
      for (std::int64_t i = 0; i < kRows; ++i) ids[static_cast<std::size_t>(i)] = 7 * (kRows - i);
      if (with_ids) writer->append_ids(ids);
      writer->close();
    }
    comm_.barrier();
    return path;
  }

  SearchJobConfig config_of(const std::string& base, const std::string& name) const {
    SearchJobConfig config;
    config.base = {{base, ""}};
    config.queries = config.base;
    config.k = 1;
    config.index = "ivf" + std::to_string(kLists);
    config.build = IndexBuild{.training_rows = 500, .iterations = 4, .shards = 3};
    config.output = folder_ + "/" + name;
    config.engine = "cpu";
    config.memory_bytes = std::int64_t{256} << 20;
    config.threads = 1;
    return config;
  }

  /// Built by all ranks in small blocks, and by one alone at once: the same bytes.
  void expect_same_bytes(const SearchJobConfig& alone, SearchJobConfig together) const {
    if (comm_.is_root()) run_build_job(alone, comm::Communicator::self(), {});
    together.batch = 150;
    together.threads = 3;
    together.output += ".together";
    run_build_job(together, comm_, {});
    if (!comm_.is_root()) return;
    const auto files = payload(alone.output);
    EXPECT_EQ(files.size(), 4U);  // lists and shards, nothing that is left over
    EXPECT_EQ(files, payload(together.output));
  }

  /// On root: every row lies in the list of a centroid that is nearest to it, and lists are in base order.
  void check_lists(const SearchJobConfig& config) const {
    if (!comm_.is_root()) return;
    const io::IndexManifest manifest = io::read_index(config.output);
    const io::IndexLists lists = io::read_lists(config.output, manifest);
    const auto stored = io::open_sources(io::index_inputs(config.output, manifest));
    const auto base = io::open_sources(config.base);
    ASSERT_EQ(stored->rows(), kRows);
    ASSERT_EQ(stored->dtype(), base->dtype());
    const Matrix rows = to_float32(stored->read_matrix(0, kRows));
    std::vector<GlobalId> ids(kRows);
    stored->read_ids(0, kRows, ids);
    check_rows(*base, stored->read_matrix(0, kRows), ids);
    ASSERT_EQ(std::ssize(lists.starts), kLists + 1);
    for (std::int64_t l = 0; l < kLists; ++l)
      for (std::int64_t p = lists.starts[l]; p < lists.starts[l + 1]; ++p)
        check_list(config.metric, lists, l, rows.view().as<float>().row(p));
  }

  static void check_list(Metric metric, const io::IndexLists& lists, std::int64_t list, const float* row) {
    const auto centroids = lists.centroids.view().as<float>();
    const double own = nearness(metric, row, centroids.row(list));
    for (std::int64_t c = 0; c < kLists; ++c) {
      const double other = nearness(metric, row, centroids.row(c));
      ASSERT_GE(own, other - 1e-6 * (1 + std::abs(other))) << "list " << list << " against " << c;
    }
  }

  /// Every row of the base is there once, under its id.
  static void check_rows(const io::VectorSource& base, const Matrix& rows, const std::vector<GlobalId>& ids) {
    const Matrix all = base.read_matrix(0, kRows);
    std::vector<GlobalId> numbers(kRows);
    std::iota(numbers.begin(), numbers.end(), 0);
    if (base.has_ids()) base.read_ids(0, kRows, numbers);
    std::map<GlobalId, std::int64_t> row_of;
    for (std::int64_t i = 0; i < kRows; ++i) row_of[numbers[static_cast<std::size_t>(i)]] = i;
    for (std::int64_t p = 0; p < kRows; ++p) {
      const auto found = row_of.find(ids[static_cast<std::size_t>(p)]);
      ASSERT_NE(found, row_of.end()) << "place " << p;
      ASSERT_EQ(std::memcmp(rows.view().row(p), all.view().row(found->second), all.view().row_bytes()), 0);
      row_of.erase(found);
    }
  }

  comm::Communicator comm_ = comm::Communicator::world();
  test::TemporaryFolder own_;
  std::string folder_;
};

TEST_F(BuildJobTest, is_the_same_for_any_number_of_ranks_and_puts_every_row_to_its_nearest_centroid) {
  const std::string base = write_base(DType::f32, false);
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine}) {
    SearchJobConfig config = config_of(base, "index." + std::string(to_string(metric)));
    config.metric = metric;
    expect_same_bytes(config, config);
    check_lists(config);
  }
}

TEST_F(BuildJobTest, keeps_dtype_and_ids_of_the_base) {
  for (const DType dtype : {DType::u8, DType::bf16, DType::f64}) {
    SearchJobConfig config = config_of(write_base(dtype, true), "index." + std::string(to_string(dtype)));
    expect_same_bytes(config, config);
    check_lists(config);
  }
}

TEST_F(BuildJobTest, a_flat_index_is_the_base_in_its_order) {
  SearchJobConfig config = config_of(write_base(DType::f32, true), "flat");
  config.index = "flat";
  expect_same_bytes(config, config);
  if (!comm_.is_root()) return;
  const io::IndexManifest manifest = io::read_index(config.output);
  EXPECT_EQ(manifest.nlist, 1);
  EXPECT_EQ(io::read_lists(config.output, manifest).starts, (std::vector<std::int64_t>{0, kRows}));
  const auto stored = io::open_sources(io::index_inputs(config.output, manifest));
  const auto base = io::open_sources(config.base);
  const Matrix a = stored->read_matrix(0, kRows);
  const Matrix b = base->read_matrix(0, kRows);
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.bytes()), 0);
}

/// A FAISS file of lists of every length, with ids in no order.
std::string write_faiss_lists(const std::string& path, std::int64_t repeated_id) {
  const std::vector<float> values = exact_vectors::make(kRows, kD, 5);
  const std::vector<float> means = exact_vectors::make(kLists, kD, 6);
  io::IndexLists lists{.centroids = Matrix(DType::f32, kLists, kD), .codec = {}, .starts = {0}};
  std::ranges::copy(means, lists.centroids.as<float>().data);
  for (std::int64_t l = 1; l < kLists; ++l)
    lists.starts.push_back(l == 4 ? lists.starts.back() : 17 * l * l / 2);
  lists.starts.push_back(kRows);
  const auto writer = io::create_faiss_lists(path, Metric::ip, lists);
  writer->append(reinterpret_cast<const std::byte*>(values.data()), kRows);
  std::vector<GlobalId> ids(kRows);
  for (std::int64_t i = 0; i < kRows; ++i) ids[static_cast<std::size_t>(i)] = 7 * i * 389 % (7 * kRows);
  ids[1000] = repeated_id < 0 ? ids[1000] : repeated_id;
  writer->append_ids(ids);
  writer->close();
  return path;
}

TEST_F(BuildJobTest, takes_lists_rows_and_ids_of_a_faiss_file_as_they_are) {
  const std::string path = folder_ + "/faiss.index";
  if (comm_.is_root()) write_faiss_lists(path, -1);
  comm_.barrier();
  SearchJobConfig config = config_of(path, "imported");
  config.build = IndexBuild{.shards = 3, .imports = true};
  config.metric = Metric::ip;
  expect_same_bytes(config, config);
  if (!comm_.is_root()) return;
  const io::IndexManifest manifest = io::read_index(config.output);
  const io::IndexLists lists = io::read_lists(config.output, manifest);
  const io::FaissLayout layout = io::read_faiss_layout(path);
  const io::IndexLists wanted = io::read_faiss_lists(path, layout);
  EXPECT_EQ(lists.starts, wanted.starts);
  EXPECT_EQ(std::memcmp(lists.centroids.data(), wanted.centroids.data(), lists.centroids.bytes()), 0);
  const auto stored = io::open_sources(io::index_inputs(config.output, manifest));
  const auto base = io::open_sources(config.base);
  const Matrix a = stored->read_matrix(0, kRows);
  EXPECT_EQ(std::memcmp(a.data(), base->read_matrix(0, kRows).data(), a.bytes()), 0);
  std::vector<GlobalId> ids(kRows);
  std::vector<GlobalId> wanted_ids(kRows);
  stored->read_ids(0, kRows, ids);
  base->read_ids(0, kRows, wanted_ids);
  EXPECT_EQ(ids, wanted_ids);
}

TEST_F(BuildJobTest, refuses_a_faiss_file_with_an_id_that_is_there_twice) {
  const std::string path = folder_ + "/faiss.index";
  if (comm_.is_root()) write_faiss_lists(path, 0);
  comm_.barrier();
  SearchJobConfig config = config_of(path, "imported");
  config.build = IndexBuild{.imports = true};
  test::expect_error(
      ErrorKind::data, [&] { run_build_job(config, comm_, {}); }, path + " row 0 ", "row 1000 ",
      "same id, 0");
  if (comm_.is_root()) {
    EXPECT_FALSE(io::exists(folder_ + "/imported.partial"));
  }
}

TEST_F(BuildJobTest, refuses_what_cant_be_built) {
  const std::string base = write_base(DType::f32, false);
  SearchJobConfig config = config_of(base, "index");
  config.index = "ivf2000";
  test::expect_error(
      ErrorKind::config, [&] { run_build_job(config, comm_, {}); }, "2000", "500");
  config.build->training_rows = 0;
  test::expect_error(
      ErrorKind::config, [&] { run_build_job(config, comm_, {}); }, "2000", "1203");
  config.index = "hnsw32";
  test::expect_error(
      ErrorKind::usage, [&] { run_build_job(config, comm_, {}); }, "hnsw32", "flat", "ivf");
  config = config_of(base, "index");
  config.build->shards = kRows + 1;
  test::expect_error(
      ErrorKind::usage, [&] { run_build_job(config, comm_, {}); }, "1204", "1203");
  config = config_of(base, "index");
  config.memory_bytes = 1 << 16;
  test::expect_error(
      ErrorKind::config, [&] { run_build_job(config, comm_, {}); }, "--memory");
  config = config_of(base, "missing/index");
  test::expect_error(
      ErrorKind::cannot_create, [&] { run_build_job(config, comm_, {}); }, "missing");
  EXPECT_FALSE(io::exists(folder_ + "/index.partial"));
}

TEST(ListStatistics, are_those_of_the_sizes) {
  const ListStatistics statistics = list_statistics({0, 1, 1, 4, 8});
  EXPECT_EQ(statistics.smallest, 0);
  EXPECT_EQ(statistics.median, 3);
  EXPECT_EQ(statistics.largest, 4);
  EXPECT_DOUBLE_EQ(statistics.imbalance, 26.0 * 4 / 64);
}

}  // namespace
}  // namespace mpishards::rank
