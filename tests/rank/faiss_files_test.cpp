// Files that FAISS itself writes and reads: what it writes comes in, what we write it searches.
#include <faiss/IndexFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/index_io.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "io/faiss_layout.hpp"
#include "io/faiss_writer.hpp"
#include "io/vector_source.hpp"
#include "support/exact_vectors.hpp"
#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::rank {
namespace {

constexpr std::int64_t kRows = 700;
constexpr std::int64_t kD = 6;
constexpr std::int64_t kLists = 9;

struct Vectors {
  std::vector<float> rows = exact_vectors::make(kRows, kD, 3);
  std::vector<GlobalId> ids;
  Vectors() {
    for (std::int64_t row = 0; row < kRows; ++row) ids.push_back(5 * (kRows - row));
  }
  const float* row(std::int64_t r) const { return rows.data() + r * kD; }
};

faiss::MetricType faiss_metric(Metric metric) {
  return metric == Metric::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
}

/// Reads all rows, and ids, of one file into another of the same kind.
void copy(const io::VectorSource& source, io::VectorWriter& writer) {
  writer.append(source.read_matrix(0, source.rows()).data(), source.rows());
  if (source.has_ids()) {
    std::vector<GlobalId> ids(static_cast<std::size_t>(source.rows()));
    source.read_ids(0, source.rows(), ids);
    writer.append_ids(ids);
  }
  writer.close();
}

class FaissFilesTest : public testing::TestWithParam<Metric> {
 protected:
  std::string write(const faiss::Index& index) const {
    faiss::write_index(&index, (folder_ / "faiss.index").c_str());
    return folder_ / "faiss.index";
  }
  faiss::IndexFlat flat() const { return faiss::IndexFlat(kD, faiss_metric(GetParam())); }

  test::TemporaryFolder folder_;
  Vectors vectors_;
};

TEST_P(FaissFilesTest, flat_index_comes_in_and_goes_out_as_the_same_bytes) {
  faiss::IndexFlat index = flat();
  index.add(kRows, vectors_.rows.data());
  const std::string path = write(index);
  EXPECT_EQ(io::read_faiss_layout(path).metric, GetParam());
  const auto source = io::open_source({path, ""});
  ASSERT_EQ(source->rows(), kRows);
  EXPECT_FALSE(source->has_ids());
  Matrix rows = source->read_matrix(0, kRows);
  EXPECT_TRUE(std::equal(vectors_.rows.begin(), vectors_.rows.end(), rows.as<float>().data));
  copy(*source, *io::create_faiss_flat(folder_ / "ours.index", GetParam(), kRows, kD, false));
  EXPECT_EQ(test::bytes_of(folder_ / "ours.index"), test::bytes_of(path));
}

TEST_P(FaissFilesTest, ids_of_a_map_stay_with_their_rows) {
  faiss::IndexFlat inner = flat();
  faiss::IndexIDMap2 index(&inner);
  index.add_with_ids(kRows, vectors_.rows.data(), vectors_.ids.data());
  const std::string path = write(index);
  const auto source = io::open_source({path, ""});
  std::vector<GlobalId> ids(kRows);
  source->read_ids(0, kRows, ids);
  EXPECT_EQ(ids, vectors_.ids);
  copy(*source, *io::create_faiss_flat(folder_ / "ours.index", GetParam(), kRows, kD, true));
  EXPECT_EQ(test::bytes_of(folder_ / "ours.index"), test::bytes_of(path));
}

TEST_P(FaissFilesTest, lists_keep_rows_ids_and_centroids_and_are_searched_alike) {
  faiss::IndexFlat quantizer = flat();
  faiss::IndexIVFFlat index(&quantizer, kD, kLists, faiss_metric(GetParam()));
  index.train(kRows, vectors_.rows.data());
  index.add_with_ids(kRows, vectors_.rows.data(), vectors_.ids.data());
  const std::string path = write(index);

  const auto source = io::open_source({path, ""});
  const io::FaissLayout layout = io::read_faiss_layout(path);
  ASSERT_EQ(layout.nlist(), kLists);
  std::vector<GlobalId> ids(kRows);
  source->read_ids(0, kRows, ids);
  for (std::int64_t list = 0; list < kLists; ++list) {
    const auto size = index.invlists->list_size(static_cast<std::size_t>(list));
    ASSERT_EQ(layout.start(list + 1) - layout.start(list), static_cast<std::int64_t>(size));
    const faiss::Index::idx_t* wanted = index.invlists->get_ids(static_cast<std::size_t>(list));
    EXPECT_TRUE(std::equal(wanted, wanted + size, ids.begin() + layout.start(list))) << list;
  }
  for (std::int64_t place = 0; place < kRows; ++place) {
    const float* wanted = vectors_.row(kRows - ids[static_cast<std::size_t>(place)] / 5);
    Matrix row = source->read_matrix(place, place + 1);
    ASSERT_TRUE(std::equal(wanted, wanted + kD, row.as<float>().data)) << place;
  }

  copy(*source,
       *io::create_faiss_lists(folder_ / "ours.index", GetParam(), io::read_faiss_lists(path, layout)));
  EXPECT_EQ(test::bytes_of(folder_ / "ours.index"), test::bytes_of(path));
  const std::unique_ptr<faiss::Index> back(faiss::read_index((folder_ / "ours.index").c_str()));
  auto* lists = dynamic_cast<faiss::IndexIVFFlat*>(back.get());
  ASSERT_NE(lists, nullptr);
  lists->nprobe = index.nprobe = 3;
  constexpr faiss::Index::idx_t kQueries = 50;
  std::vector<faiss::Index::idx_t> ours(kQueries * 10);
  std::vector<faiss::Index::idx_t> theirs(kQueries * 10);
  std::vector<float> distances(kQueries * 10);
  lists->search(kQueries, vectors_.rows.data(), 10, distances.data(), ours.data());
  index.search(kQueries, vectors_.rows.data(), 10, distances.data(), theirs.data());
  EXPECT_EQ(ours, theirs);
}

INSTANTIATE_TEST_SUITE_P(Metrics, FaissFilesTest, testing::Values(Metric::l2, Metric::ip),
                         [](const auto& metric) { return std::string(to_string(metric.param)); });

}  // namespace
}  // namespace mpishards::rank
