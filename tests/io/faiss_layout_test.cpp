// FAISS' files byte by byte, as its index_write.cpp writes them; FAISS itself:
// tests/rank/faiss_files_test.cpp.
#include "io/faiss_layout.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "io/faiss_writer.hpp"
#include "io/vector_source.hpp"
#include "support/expect_error.hpp"
#include "support/file_bytes.hpp"
#include "support/temporary_folder.hpp"

namespace mpishards::io {
namespace {

using test::expect_error;
using test::TemporaryFolder;

constexpr std::int32_t kL2 = 1;
constexpr std::int32_t kInnerProduct = 0;

template <class... T>
std::string bytes_of(T... values) {
  std::string bytes;
  (bytes.append(reinterpret_cast<const char*>(&values), sizeof(T)), ...);
  return bytes;
}

template <class T>
std::string array_bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string header(const std::string& type, std::int32_t d, std::int64_t rows, std::int32_t metric = kL2) {
  return type + bytes_of(d, rows, std::int64_t{1} << 20, std::int64_t{1} << 20, char{1}, metric) +
         (metric > kL2 ? bytes_of(0.0F) : "");
}

std::string flat(std::int32_t d, const std::vector<float>& values, std::int32_t metric = kL2) {
  const auto rows = std::ssize(values) / d;
  return header(metric == kL2 ? "IxF2" : "IxFI", d, rows, metric) + bytes_of(std::ssize(values)) +
         array_bytes(values);
}

std::vector<float> ramp(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 1.0F);
  return values;
}

/// An IndexIVFFlat of d = 2 and four lists, of 2, 0, 3 and 1 rows; each part can be another.
struct IvfParts {
  std::string begin = header("IwFl", 2, 6) + bytes_of(std::int64_t{4}, std::int64_t{1});
  std::string quantizer = flat(2, ramp(8));
  std::string direct_map = bytes_of(char{0}, std::int64_t{0});
  std::string lists = "ilar" + bytes_of(std::int64_t{4}, std::int64_t{8});
  std::string sizes = "full" + bytes_of(std::int64_t{4}) + array_bytes<std::int64_t>({2, 0, 3, 1});
  std::string rows = array_bytes<float>({10, 11, 12, 13}) + array_bytes<std::int64_t>({7, 5}) +
                     array_bytes<float>({20, 21, 22, 23, 24, 25}) + array_bytes<std::int64_t>({3, 9, 1}) +
                     array_bytes<float>({30, 31}) + array_bytes<std::int64_t>({0});

  std::string bytes() const { return begin + quantizer + direct_map + lists + sizes + rows; }
};

std::vector<float> rows_of(const VectorSource& source, std::int64_t begin, std::int64_t end) {
  Matrix matrix = source.read_matrix(begin, end);
  const float* values = matrix.as<float>().data;
  return {values, values + (end - begin) * source.cols()};
}

std::vector<GlobalId> ids_of(const VectorSource& source, std::int64_t begin, std::int64_t end) {
  std::vector<GlobalId> ids(static_cast<std::size_t>(end - begin));
  source.read_ids(begin, end, ids);
  return ids;
}

void expect_six_rows(const VectorSource& source) {
  ASSERT_EQ(source.rows(), 6);
  ASSERT_EQ(source.cols(), 2);
  EXPECT_EQ(rows_of(source, 0, 6), std::vector<float>({10, 11, 12, 13, 20, 21, 22, 23, 24, 25, 30, 31}));
  EXPECT_EQ(ids_of(source, 0, 6), std::vector<GlobalId>({7, 5, 3, 9, 1, 0}));
  for (std::int64_t begin = 0; begin <= 6; ++begin)
    for (std::int64_t end = begin; end <= 6; ++end) {
      const std::vector<float> all = rows_of(source, 0, 6);
      EXPECT_EQ(rows_of(source, begin, end),
                std::vector<float>(all.begin() + 2 * begin, all.begin() + 2 * end));
      EXPECT_EQ(ids_of(source, begin, end).size(), static_cast<std::size_t>(end - begin));
    }
}

TEST(FaissFile, lists_follow_each_other_with_their_ids) {
  const TemporaryFolder folder;
  const auto source = open_source({folder.write("a.index", IvfParts().bytes()), ""});
  expect_six_rows(*source);
  EXPECT_EQ(source->describe_row(4), (folder / "a.index") + " row 4 (in list 2)");
  const FaissLayout layout = read_faiss_layout(folder / "a.index");
  EXPECT_EQ(layout.starts, std::vector<std::int64_t>({0, 2, 2, 5, 6}));
  EXPECT_EQ(layout.metric, Metric::l2);
  IndexLists lists = read_faiss_lists(folder / "a.index", layout);
  EXPECT_EQ(lists.starts, layout.starts);
  const float* centroids = lists.centroids.as<float>().data;
  EXPECT_EQ(std::vector<float>(centroids, centroids + 8), ramp(8));
}

TEST(FaissFile, sizes_of_few_lists_and_direct_maps_are_understood) {
  const TemporaryFolder folder;
  IvfParts parts;
  parts.sizes = "sprs" + bytes_of(std::int64_t{6}) + array_bytes<std::int64_t>({0, 2, 2, 3, 3, 1});
  expect_six_rows(*open_source({folder.write("a.faiss", parts.bytes()), ""}));
  parts.direct_map = bytes_of(char{1}, std::int64_t{3}) + array_bytes<std::int64_t>({1, 2, 3});
  expect_six_rows(*open_source({folder.write("a.faiss", parts.bytes()), ""}));
  parts.direct_map = bytes_of(char{2}, std::int64_t{0}, std::int64_t{1}, std::int64_t{5}, std::int64_t{6});
  expect_six_rows(*open_source({folder.write("a.faiss", parts.bytes()), ""}));
}

TEST(FaissFile, a_flat_index_has_ids_where_it_is_in_a_map) {
  const TemporaryFolder folder;
  const auto plain = open_source({folder.write("a.index", flat(3, ramp(12), kInnerProduct)), ""});
  EXPECT_EQ(plain->rows(), 4);
  EXPECT_FALSE(plain->has_ids());
  EXPECT_EQ(rows_of(*plain, 1, 3), std::vector<float>({4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(read_faiss_layout(folder / "a.index").metric, Metric::ip);
  for (const char* type : {"IxMp", "IxM2"}) {
    const std::string mapped = header(type, 3, 4) + flat(3, ramp(12)) + bytes_of(std::int64_t{4}) +
                               array_bytes<std::int64_t>({9, 2, 0, 5});
    const auto source = open_source({folder.write("a.index", mapped), ""});
    EXPECT_EQ(rows_of(*source, 0, 4), ramp(12));
    EXPECT_EQ(ids_of(*source, 1, 4), std::vector<GlobalId>({2, 0, 5}));
  }
}

TEST(FaissFile, lists_in_a_map_have_the_ids_of_the_map) {
  const TemporaryFolder folder;
  IvfParts parts;
  parts.rows = array_bytes<float>({10, 11, 12, 13}) + array_bytes<std::int64_t>({4, 0}) +
               array_bytes<float>({20, 21, 22, 23, 24, 25}) + array_bytes<std::int64_t>({5, 1, 3}) +
               array_bytes<float>({30, 31}) + array_bytes<std::int64_t>({2});
  const auto mapped = [&](const std::string& inner) {
    return header("IxMp", 2, 6) + inner + bytes_of(std::int64_t{6}) +
           array_bytes<std::int64_t>({5, 9, 0, 1, 7, 3});
  };
  expect_six_rows(*open_source({folder.write("a.index", mapped(parts.bytes())), ""}));
  parts.rows[16] = 6;  // the first id of the first list
  const auto beyond = open_source({folder.write("a.index", mapped(parts.bytes())), ""});
  expect_error(
      ErrorKind::data, [&] { ids_of(*beyond, 0, 1); }, "a.index row 0 (in list 0)", "place 6", "which has 6");
}

/// Written by us: the bytes that FAISS would write.
TEST(FaissFile, what_is_written_is_what_faiss_writes) {
  const TemporaryFolder folder;
  const std::vector<float> values = ramp(12);
  const std::array<GlobalId, 4> ids = {9, 2, 0, 5};
  const auto rows = reinterpret_cast<const std::byte*>(values.data());
  const auto map = create_faiss_flat(folder / "a.index", Metric::ip, 4, 3, true);
  map->append(rows, 1);
  map->append(rows + 12, 3);
  map->append_ids(ids);
  map->close();
  EXPECT_EQ(test::bytes_of(folder / "a.index"),
            header("IxM2", 3, 4, kInnerProduct) + flat(3, values, kInnerProduct) + bytes_of(std::int64_t{4}) +
                array_bytes<std::int64_t>({9, 2, 0, 5}));

  const std::string wanted = IvfParts().bytes();
  const std::string path = folder.write("b.index", wanted);
  const FaissLayout layout = read_faiss_layout(path);
  const auto source = open_source({path, ""});
  const auto writer = create_faiss_lists(folder / "c.index", Metric::l2, read_faiss_lists(path, layout));
  for (std::int64_t begin = 0; begin < 6; begin += 4) {
    const std::int64_t end = std::min<std::int64_t>(6, begin + 4);
    writer->append(source->read_matrix(begin, end).data(), end - begin);
    writer->append_ids(ids_of(*source, begin, end));
  }
  EXPECT_FALSE(exists(folder / "c.index"));
  writer->close();
  EXPECT_EQ(test::bytes_of(folder / "c.index"), wanted);
}

template <class... Parts>
void expect_bad(const TemporaryFolder& folder, const std::string& bytes, const Parts&... parts) {
  const std::string path = folder.write("bad.index", bytes);
  expect_error(
      ErrorKind::data,
      [&] {
        const auto source = open_source({path, ""});
        if (source->has_ids()) ids_of(*source, 0, source->rows());
      },
      path, parts...);
}

TEST(BadFaissFile, says_what_it_is_instead) {
  const TemporaryFolder folder;
  expect_bad(folder, header("IHNf", 2, 6), "IndexHNSWFlat", "IndexIVFFlat");
  expect_bad(folder, header("IwPQ", 2, 6), "IndexIVFPQ");
  expect_bad(folder, header("ABCD", 2, 6), "'ABCD'", "no FAISS file");
  expect_bad(folder, bytes_of(0x01020304), "0x04030201");
  expect_bad(folder, header("IxFl", 2, 6, 2), "metric 2");
  expect_bad(folder, header("IxMp", 2, 6) + header("IHNf", 2, 6), "in the IndexIDMap", "IndexHNSWFlat");
  IvfParts parts;
  parts.quantizer = header("IHNf", 2, 4);
  expect_bad(folder, parts.bytes(), "the coarse quantizer", "IndexHNSWFlat");
  parts = {};
  parts.lists = "ilod" + bytes_of(std::int64_t{4}, std::int64_t{8});
  expect_bad(folder, parts.bytes(), "ilod", "ArrayInvertedLists");
}

TEST(BadFaissFile, numbers_must_fit_each_other_and_the_file) {
  const TemporaryFolder folder;
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  expect_bad(folder, header("IxF2", 0, 4) + bytes_of(std::int64_t{0}), "4 x 0", "empty");
  expect_bad(folder, header("IxF2", -3, 4) + bytes_of(std::int64_t{0}), "4 x -3");
  expect_bad(folder, header("IxF2", 3, 0) + bytes_of(std::int64_t{0}), "0 x 3", "empty");
  expect_bad(folder, header("IxF2", 3, kHuge) + bytes_of(std::int64_t{0}), "exceeds any file");
  expect_bad(folder, header("IxF2", 3, 5) + bytes_of(std::int64_t{12}) + array_bytes(ramp(12)), "12 values",
             "5 x 3");
  expect_bad(folder, header("IxF2", 3, kHuge / 16) + bytes_of(kHuge / 16 * 3), "truncated");
  expect_bad(folder, flat(3, ramp(12)) + "x", "end at byte", "the file at byte");
  expect_bad(folder, header("IxM2", 3, 5) + flat(3, ramp(12)) + bytes_of(std::int64_t{5}), "5 ids");

  IvfParts parts;
  parts.begin = header("IwFl", 2, 6) + bytes_of(std::int64_t{5}, std::int64_t{1});
  expect_bad(folder, parts.bytes(), "5 lists", "4 x 2 f32 centroids");
  parts = {};
  parts.begin = header("IwFl", 2, 7) + bytes_of(std::int64_t{4}, std::int64_t{1});
  expect_bad(folder, parts.bytes(), "inside the rows of the lists");
  parts = {};
  parts.lists = "ilar" + bytes_of(std::int64_t{4}, std::int64_t{12});
  expect_bad(folder, parts.bytes(), "rows of 12 bytes");
  parts = {};
  parts.direct_map = bytes_of(char{1}, kHuge);
  expect_bad(folder, parts.bytes(), "the direct map", "truncated");
  for (const std::vector<std::int64_t>& sizes :
       {std::vector<std::int64_t>{2, 0, 3, 2}, {2, 0, 3, 0}, {2, -1, 4, 1}, {kHuge, kHuge, 2, 6}}) {
    parts = {};
    parts.sizes = "full" + bytes_of(std::int64_t{4}) + array_bytes(sizes);
    expect_bad(folder, parts.bytes(), "rows");
  }
  parts = {};
  parts.sizes = "full" + bytes_of(std::int64_t{3}) + array_bytes<std::int64_t>({2, 3, 1});
  expect_bad(folder, parts.bytes(), "3 sizes", "4 lists");
  parts.sizes = "sprs" + bytes_of(std::int64_t{2}) + array_bytes<std::int64_t>({4, 6});
  expect_bad(folder, parts.bytes(), "list 4 of 4");
  parts = {};
  parts.rows[16] = '\xff';  // an id's lowest and highest byte
  parts.rows[23] = '\xff';
  expect_bad(folder, parts.bytes(), "row 0 (in list 0)", "negative");
}

TEST(BadFaissFile, every_truncation_is_refused) {
  const TemporaryFolder folder;
  const std::string map = header("IxMp", 3, 4) + flat(3, ramp(12)) + bytes_of(std::int64_t{4}) +
                          array_bytes<std::int64_t>({9, 2, 0, 5});
  for (const std::string& whole : {IvfParts().bytes(), map})
    for (std::size_t kept = 1; kept < whole.size(); ++kept) expect_bad(folder, whole.substr(0, kept));
}

/// Whatever a byte becomes: the file is read, or refused by an Error.
TEST(BadFaissFile, changed_bytes_harm_nobody) {
  const TemporaryFolder folder;
  const std::string whole = IvfParts().bytes();
  std::mt19937 random(5);
  for (int i = 0; i < 1500; ++i) {
    std::string changed = whole;
    for (int n = 0; n < 1 + i % 3; ++n) changed[random() % whole.size()] = static_cast<char>(random());
    const std::string path = folder.write("changed.index", changed);
    try {
      const auto source = open_source({path, ""});
      source->read_matrix(0, source->rows());
      ids_of(*source, 0, source->rows());
      read_faiss_lists(path, read_faiss_layout(path));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::data) << error.what();
    }
  }
}

TEST(BadFaissFile, centroids_must_be_finite_and_compared_like_rows) {
  const TemporaryFolder folder;
  const auto lists_of = [&](const IvfParts& parts) {
    const std::string path = folder.write("a.index", parts.bytes());
    return read_faiss_lists(path, read_faiss_layout(path));
  };
  IvfParts parts;
  parts.quantizer = flat(2, {1, 2, 3, 4, std::numeric_limits<float>::quiet_NaN(), 6, 7, 8});
  expect_error(
      ErrorKind::data, [&] { lists_of(parts); }, "centroid of list 2", "NaN");
  parts.quantizer = flat(2, ramp(8), kInnerProduct);
  expect_error(
      ErrorKind::data, [&] { lists_of(parts); }, "rows by l2 and centroids by ip");
  // Of equally long centroids the nearest is the most similar one.
  parts.quantizer = flat(2, {0.6F, 0.8F, 1, 0, 0, -1, -0.8F, 0.6F}, kInnerProduct);
  EXPECT_NO_THROW(lists_of(parts));
}

}  // namespace
}  // namespace mpishards::io
