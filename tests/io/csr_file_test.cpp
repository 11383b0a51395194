#include "io/csr_file.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "core/error.hpp"
#include "support/expect_error.hpp"
#include "support/file_bytes.hpp"
#include "support/hdf5_file.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::bytes_of;
using test::expect_error;

/// Rows of 2, 0, 5, 0, 1 and 0 entries.
const std::vector<std::int64_t> kOffsets = {0, 2, 2, 7, 7, 8, 8};
const std::vector<GlobalId> kIds = {4, 1, 0, 1, 3, 4, 5, 2};
const std::vector<float> kDistances = {0.5F, 1.0F, 0.0F, 0.25F, 0.5F, 0.75F, 2.0F, 9.0F};
constexpr CsrShape kShape = {6, 6, 8, false};

void fill(const CsrSlices& slices) {
  const std::span<const std::int64_t> offsets(kOffsets);
  const std::span<const GlobalId> ids(kIds);
  const std::span<const float> distances(kDistances);
  slices.write_entries(3, ids.subspan(3), distances.subspan(3));
  slices.write_offsets(4, offsets.subspan(4));
  slices.write_offsets(0, offsets.first(4));
  slices.write_entries(0, ids.first(3), distances.first(3));
  slices.sync();
}

std::string published(const test::TemporaryFolder& folder, const std::string& name = "m.h5") {
  const std::string out = folder / name;
  fill(CsrSlices(CsrLayout::deserialize(create_csr(out, kShape).serialize())));
  publish_result(out, ResultFormat::csr, {{"nb", std::int64_t{6}}, {"metric", std::string("l2")}});
  return out;
}

void expect_all(const CsrSource& matrix) {
  EXPECT_EQ(matrix.shape().rows, 6);
  EXPECT_EQ(matrix.shape().nnz, 8);
  EXPECT_EQ(matrix.read_offsets(0, 6), kOffsets);
  const CsrRows all = matrix.read_rows(0, 6);
  EXPECT_EQ(all.ids, kIds);
  EXPECT_EQ(all.distances, kDistances);
  const CsrRows middle = matrix.read_rows(2, 5);
  EXPECT_EQ(middle.rows(), 3);
  EXPECT_EQ(middle.row(0).neighbors.size(), 5U);
  EXPECT_EQ(middle.row(0).neighbors[2], 3);
  EXPECT_EQ(middle.row(1).neighbors.size(), 0U);
  EXPECT_EQ(middle.row(2).distances[0], 9.0F);
  EXPECT_EQ(matrix.read_rows(6, 6).rows(), 0);
}

TEST(CsrFile, comes_back_as_it_was_written) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "m.h5";
  const CsrSlices slices(create_csr(out, kShape));
  fill(slices);
  expect_all(slices);
  EXPECT_TRUE(partial_exists(out, ResultFormat::csr));
  EXPECT_FALSE(exists(out));
  publish_result(out, ResultFormat::csr, {{"nb", std::int64_t{60}}});
  EXPECT_FALSE(partial_exists(out, ResultFormat::csr));
  const auto matrix = open_csr(out);
  expect_all(*matrix);
  EXPECT_EQ(matrix->shape().columns, 60);
  EXPECT_EQ(matrix->name(), out);
  EXPECT_EQ(std::get<std::int64_t>(matrix->attributes().at("nb")), 60);
}

TEST(CsrFile, has_the_same_bytes_whatever_the_order_of_writing) {
  const test::TemporaryFolder folder;
  const std::string first = published(folder, "a.h5");
  const std::string second = folder / "b.h5";
  const CsrSlices slices(create_csr(second, kShape));
  for (std::size_t i = kIds.size(); i-- > 0;)
    slices.write_entries(static_cast<std::int64_t>(i), std::span(kIds).subspan(i, 1),
                         std::span(kDistances).subspan(i, 1));
  slices.write_offsets(0, kOffsets);
  publish_result(second, ResultFormat::csr, {{"nb", std::int64_t{6}}, {"metric", std::string("l2")}});
  EXPECT_EQ(bytes_of(first), bytes_of(second));
}

TEST(CsrFile, a_result_of_k_a_row_is_one_too) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "g.h5";
  const ResultLayout layout = create_result(out, ResultFormat::csr, 3, 2, 2);
  TopK rows(3, 2, Metric::l2);
  std::iota(rows.neighbors(), rows.neighbors() + 5, 0);
  ResultSlices(layout).write(0, rows);
  const CsrSlices unfinished(adopt_csr(out, {3, 3, 6, false}));
  EXPECT_EQ(unfinished.read_rows(1, 3).ids, (std::vector<GlobalId>{2, 3, 4, kNoNeighbor}));
  publish_result(out, ResultFormat::csr, {});
  const auto matrix = open_csr(out);
  EXPECT_EQ(matrix->shape().columns, 3);
  EXPECT_EQ(matrix->read_rows(1, 3).ids, (std::vector<GlobalId>{2, 3, 4, kNoNeighbor}));
}

TEST(CsrFile, can_be_empty) {
  const test::TemporaryFolder folder;
  for (const std::int64_t rows : {0, 3}) {
    const std::string out = folder / std::to_string(rows);
    const CsrSlices slices(create_csr(out, {rows, rows, 0, true}));
    slices.write_offsets(0, std::vector<std::int64_t>(static_cast<std::size_t>(rows) + 1, 0));
    adopt_csr(out, {rows, rows, 0, true});
    publish_result(out, ResultFormat::csr, {});
    const auto matrix = open_csr(out);
    EXPECT_EQ(matrix->shape().rows, rows);
    EXPECT_EQ(matrix->read_rows(0, rows).ids.size(), 0U);
    for_each_piece(*matrix, 0, rows, 1, [](std::int64_t, ConstNeighborRow) { FAIL(); });
  }
}

TEST(CsrFile, holds_components_and_keep_where_asked_for) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "m.h5";
  CsrShape shape = kShape;
  shape.has_clusters = true;
  const CsrSlices slices(CsrLayout::deserialize(create_csr(out, shape).serialize()));
  fill(slices);
  slices.write_components(4, std::vector<GlobalId>{4, 0});
  slices.write_components(0, std::vector<GlobalId>{0, 1, 0, 3});
  slices.write_keep(1, std::vector<std::uint8_t>{1, 0, 1, 1, 0});
  slices.write_keep(0, std::vector<std::uint8_t>{1});
  expect_all(slices);
  std::vector<GlobalId> components(2);
  slices.read_components(3, components);
  EXPECT_EQ(components, (std::vector<GlobalId>{3, 4}));
  publish_result(out, ResultFormat::csr, {});
  expect_all(*open_csr(out));
  std::vector<std::uint8_t> keep(6);
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(out);
  const H5Dataset array(H5Dopen2(file.get(), "keep", H5P_DEFAULT), "H5Dopen2", out);
  H5Dread(array.get(), H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, keep.data());
  EXPECT_EQ(keep, (std::vector<std::uint8_t>{1, 1, 0, 1, 1, 0}));
}

TEST(CsrFile, without_clusters_takes_none) {
  const test::TemporaryFolder folder;
  const CsrSlices slices(create_csr(folder / "m.h5", kShape));
  expect_error(ErrorKind::internal, [&] { slices.write_keep(0, std::vector<std::uint8_t>{1}); });
  expect_error(ErrorKind::internal, [&] { slices.write_components(0, std::vector<GlobalId>{1}); });
}

TEST(CsrFile, refuses_what_lies_beyond_it) {
  const test::TemporaryFolder folder;
  const CsrSlices slices(create_csr(folder / "m.h5", kShape));
  fill(slices);
  expect_error(ErrorKind::internal, [&] { slices.write_offsets(6, std::vector<std::int64_t>{8, 8}); });
  expect_error(ErrorKind::internal,
               [&] { slices.write_entries(8, std::vector<GlobalId>{1}, std::vector<float>{1}); });
  expect_error(ErrorKind::internal, [&] {
    slices.write_entries(0, std::vector<GlobalId>{1}, std::vector<float>{1, 2});
  });
  expect_error(ErrorKind::internal, [&] { slices.read_rows(5, 7); });
  expect_error(ErrorKind::internal, [&] { slices.read_rows(-1, 2); });
}

TEST(CsrFile, of_another_shape_is_not_adopted) {
  const test::TemporaryFolder folder;
  create_csr(folder / "m.h5", kShape);
  expect_error(
      ErrorKind::data,
      [&] {
        adopt_csr(folder / "m.h5", {6, 6, 9, false});
      },
      "8, expected 9", "--no-resume");
  expect_error(ErrorKind::data, [&] { adopt_csr(folder / "m.h5", {6, 6, 8, true}); });
}

TEST(CsrFile, publication_killed_half_way_is_undone_at_adoption) {
  const test::TemporaryFolder folder;
  const std::string out = folder / "m.h5";
  const CsrLayout layout = create_csr(out, kShape);
  fill(CsrSlices(layout));
  std::filesystem::create_directory(out);  // makes the rename impossible
  expect_error(ErrorKind::cannot_create, [&] {
    publish_result(out, ResultFormat::csr, {{"nb", std::int64_t{6}}});
  });
  std::filesystem::remove(out);
  std::fstream(out + ".partial", std::ios::in | std::ios::out | std::ios::binary).write("torn", 4);
  EXPECT_EQ(adopt_csr(out, kShape).serialize(), layout.serialize());
  publish_result(out, ResultFormat::csr, {{"nb", std::int64_t{6}}});
  expect_all(*open_csr(out));
}

TEST(CsrFile, full_disk_is_noticed_before_any_work) {
  const test::TemporaryFolder folder;
  expect_error(
      ErrorKind::cannot_create,
      [&] {
        create_csr(folder / "m.h5", {1, 1, std::int64_t{1} << 55, false});
      },
      "disk full: needs 432345564227567632 bytes");
  EXPECT_FALSE(partial_exists(folder / "m.h5", ResultFormat::csr));
}

TEST(CsrFile, that_this_host_does_not_see_is_an_error) {
  const test::TemporaryFolder folder;
  CsrLayout layout = create_csr(folder / "m.h5", kShape);
  layout.path = folder / "elsewhere.partial";
  expect_error(
      ErrorKind::io, [&] { const CsrSlices slices(layout); }, "does not see");
}

TEST(CsrBlocks, have_as_many_rows_as_fit_and_at_least_one) {
  const test::TemporaryFolder folder;
  const auto matrix = open_csr(published(folder));
  const auto rows_of = [&](std::int64_t begin, std::int64_t entries, std::int64_t rows) {
    const CsrRows block = matrix->read_block(begin, entries, rows);
    EXPECT_EQ(static_cast<std::int64_t>(block.ids.size()), block.offsets.back() - block.offsets.front());
    return block.rows();
  };
  EXPECT_EQ(rows_of(0, 100, 100), 6);
  EXPECT_EQ(rows_of(0, 100, 2), 2);
  EXPECT_EQ(rows_of(0, 2, 100), 2);
  EXPECT_EQ(rows_of(0, 6, 100), 2);
  EXPECT_EQ(rows_of(0, 7, 100), 4);
  EXPECT_EQ(rows_of(2, 1, 100), 1);  // a row of 5
  EXPECT_EQ(rows_of(3, 0, 100), 1);
  EXPECT_EQ(rows_of(5, 0, 100), 1);
}

TEST(CsrPieces, are_all_entries_in_order_however_large_the_block) {
  const test::TemporaryFolder folder;
  const auto matrix = open_csr(published(folder));
  for (const std::int64_t block : {1, 2, 3, 5, 8, 100}) {
    std::vector<std::int64_t> rows;
    std::vector<GlobalId> ids;
    std::vector<float> distances;
    for_each_piece(*matrix, 0, 6, block, [&](std::int64_t row, ConstNeighborRow piece) {
      EXPECT_FALSE(piece.neighbors.empty());
      EXPECT_LE(static_cast<std::int64_t>(piece.neighbors.size()), block);
      rows.insert(rows.end(), piece.neighbors.size(), row);
      ids.insert(ids.end(), piece.neighbors.begin(), piece.neighbors.end());
      distances.insert(distances.end(), piece.distances.begin(), piece.distances.end());
    });
    EXPECT_EQ(rows, (std::vector<std::int64_t>{0, 0, 2, 2, 2, 2, 2, 4})) << block;
    EXPECT_EQ(ids, kIds) << block;
    EXPECT_EQ(distances, kDistances) << block;
  }
  std::vector<std::int64_t> some;
  for_each_piece(*matrix, 3, 5, 2, [&](std::int64_t row, ConstNeighborRow) { some.push_back(row); });
  EXPECT_EQ(some, std::vector<std::int64_t>{4});
}

// --- files that are none
// ----------------------------------------------------------------------------------------------

template <class T>
void add(const std::string& path, const std::string& name, hid_t type, const std::vector<T>& values) {
  test::add_hdf5_dataset(path, {.name = name, .dims = {values.size()}, .stored = type, .given = type},
                         values.data());
}

struct Parts {
  std::vector<std::int64_t> indptr = kOffsets;
  std::vector<GlobalId> indices = kIds;
  std::vector<float> data = kDistances;
};

std::string written(const test::TemporaryFolder& folder, const Parts& parts) {
  const std::string path = folder / "bad.h5";
  add(path, "indptr", H5T_NATIVE_INT64, parts.indptr);
  add(path, "indices", H5T_NATIVE_INT64, parts.indices);
  add(path, "data", H5T_NATIVE_FLOAT, parts.data);
  return path;
}

TEST(BadCsr, other_integers_and_floats_are_read_as_well) {
  const test::TemporaryFolder folder;
  const std::string path = folder / "scipy.h5";
  add(path, "indptr", H5T_NATIVE_INT, std::vector<int>(kOffsets.begin(), kOffsets.end()));
  add(path, "indices", H5T_NATIVE_INT, std::vector<int>(kIds.begin(), kIds.end()));
  add(path, "data", H5T_NATIVE_DOUBLE, std::vector<double>(kDistances.begin(), kDistances.end()));
  expect_all(*open_csr(path));
}

TEST(BadCsr, indptr_that_goes_back_is_refused_where_it_is_read) {
  const test::TemporaryFolder folder;
  const auto matrix = open_csr(written(folder, {.indptr = {0, 2, 1, 7, 7, 8, 8}}));
  EXPECT_EQ(matrix->read_rows(3, 6).rows(), 3);
  expect_error(
      ErrorKind::data, [&] { matrix->read_rows(0, 6); }, "bad.h5:indptr[2] is 1, expected 2 to 8");
}

TEST(BadCsr, indptr_beyond_the_entries_is_refused) {
  const test::TemporaryFolder folder;
  const auto matrix = open_csr(written(folder, {.indptr = {0, 2, 2, 9, 7, 8, 8}}));
  expect_error(
      ErrorKind::data, [&] { matrix->read_rows(1, 3); }, "indptr[3] is 9, expected 2 to 8");
}

TEST(BadCsr, indptr_with_wrong_ends_is_refused) {
  const test::TemporaryFolder folder;
  const test::TemporaryFolder other;
  expect_error(
      ErrorKind::data,
      [&] {
        open_csr(written(folder, {.indptr = {1, 2, 2, 7, 7, 8, 8}}));
      },
      "the first number of indptr is 1, expected 0");
  expect_error(
      ErrorKind::data,
      [&] {
        open_csr(written(other, {.indptr = {0, 2, 2, 7, 7, 7, 7}}));
      },
      "the last number of indptr is 7, expected 8");
}

TEST(BadCsr, arrays_of_different_lengths_are_refused) {
  const test::TemporaryFolder folder;
  expect_error(
      ErrorKind::data,
      [&] {
        open_csr(written(folder, {.data = {1, 2}}));
      },
      "bad.h5:indices has 8 entries, but data has 2");
}

TEST(BadCsr, negative_ids_are_refused) {
  const test::TemporaryFolder folder;
  const auto matrix = open_csr(written(folder, {.indices = {4, 1, 0, -2, 3, 4, 5, 2}}));
  expect_error(
      ErrorKind::data, [&] { matrix->read_rows(0, 6); }, "indices[3] is -2");
}

TEST(BadCsr, files_that_are_no_sparse_matrix_are_refused) {
  const test::TemporaryFolder folder;
  expect_error(ErrorKind::input_missing, [&] { open_csr(folder / "none.h5"); });
  folder.write("text.h5", "not at all");
  expect_error(
      ErrorKind::data, [&] { open_csr(folder / "text.h5"); }, "is not an HDF5 file");
  const std::string path = folder / "dense.h5";
  add(path, "neighbors", H5T_NATIVE_INT64, kIds);
  expect_error(
      ErrorKind::data, [&] { open_csr(path); }, "has no data set 'indptr'");
  add(path, "indptr", H5T_NATIVE_FLOAT, kDistances);
  expect_error(
      ErrorKind::data, [&] { open_csr(path); }, "indptr does not hold integers");
}

}  // namespace
}  // namespace mpishards::io
