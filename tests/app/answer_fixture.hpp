#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/topk.hpp"
#include "io/input_spec.hpp"
#include "io/results_writer.hpp"
#include "io/vector_writer.hpp"

namespace mpishards::test {

/// Rows of float32, by default small whole numbers: distances are exact and ties abound.
struct Rows {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;

  static Rows whole_numbers(std::int64_t rows, std::int64_t cols, unsigned seed) {
    Rows out{rows, cols, {}};
    std::mt19937 random(seed);
    for (std::int64_t i = 0; i < rows * cols; ++i)
      out.values.push_back(static_cast<float>(random() % 5) - 1.0F);
    return out;
  }
  static Rows normal(std::int64_t rows, std::int64_t cols, unsigned seed) {
    Rows out{rows, cols, {}};
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < rows * cols; ++i) out.values.push_back(normal(random));
    return out;
  }
  Rows first(std::int64_t count) const {
    return {count, cols, {values.begin(), values.begin() + count * cols}};
  }
  const float* row(std::int64_t r) const { return values.data() + r * cols; }

  /// Writes the rows in the format of the path's suffix.
  void write(const std::string& path, const std::string& dataset = "") const {
    const auto writer = io::create_vector_file({path, dataset}, rows, cols, DType::f32, true);
    writer->append(reinterpret_cast<const std::byte*>(values.data()), rows);
    writer->close();
  }
};

inline double distance_in_double(Metric metric, const float* a, const float* b, std::int64_t d) {
  double l2 = 0;
  double dot = 0;
  double aa = 0;
  double bb = 0;
  for (std::int64_t j = 0; j < d; ++j) {
    const double x = a[j];
    const double y = b[j];
    l2 += (x - y) * (x - y);
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  if (metric == Metric::l2) return l2;
  if (metric == Metric::ip) return dot;
  return aa > 0 && bb > 0 ? dot / std::sqrt(aa * bb) : 0.0;
}

/// The right answer, by sorting all rows [begin, end) of the base for every query.
inline TopK right_answer(const Rows& base, const Rows& queries, Metric metric, std::int64_t k,
                         std::int64_t begin, std::int64_t end) {
  TopK answer(queries.rows, k, metric);
  for (std::int64_t q = 0; q < queries.rows; ++q) {
    std::vector<std::pair<float, std::int64_t>> all;
    for (std::int64_t b = begin; b < end; ++b) {
      const auto rounded =
          static_cast<float>(distance_in_double(metric, queries.row(q), base.row(b), base.cols));
      all.emplace_back(smaller_is_better(metric) ? rounded : -rounded, b);
    }
    std::ranges::sort(all);
    for (std::int64_t i = 0; i < std::min<std::int64_t>(k, end - begin); ++i) {
      answer.row(q).neighbors[static_cast<std::size_t>(i)] = all[static_cast<std::size_t>(i)].second;
      const float key = all[static_cast<std::size_t>(i)].first;
      answer.row(q).distances[static_cast<std::size_t>(i)] = smaller_is_better(metric) ? key : -key;
    }
  }
  return answer;
}

/// Attributes as a search of base rows [begin, end) of nb would write them.
inline io::Attributes search_attributes(const TopK& answer, const std::string& base,
                                        const std::string& queries, std::int64_t begin, std::int64_t end,
                                        std::int64_t nb, std::int64_t d) {
  const auto identity = [](const std::string& path) {
    const io::InputIdentity now = io::identify(path);
    return nlohmann::json::array({{{"path", now.path},
                                   {"size_bytes", now.size_bytes},
                                   {"mtime_ns", now.mtime_ns},
                                   {"checksum", now.checksum}}})
        .dump();
  };
  return {{"metric", std::string(to_string(answer.metric()))},
          {"k", answer.k()},
          {"nq", answer.nq()},
          {"nb", nb},
          {"d", d},
          {"base", base},
          {"queries", queries},
          {"base_identity", identity(base)},
          {"queries_identity", identity(queries)},
          {"query_begin", std::int64_t{0}},
          {"query_end", answer.nq()},
          {"base_begin", begin},
          {"base_end", end},
          {"nonfinite", std::string("error")},
          {"n_ranks", std::int64_t{2}},
          {"hosts", std::string("here")},
          {"started", std::string("2026-01-01T00:00:00Z")},
          {"ended", std::string("2026-01-01T00:00:01Z")}};
}

inline void write_result(const std::string& path, const TopK& answer, const io::Attributes& attributes) {
  const io::ResultFormat format = io::result_format_of(path);
  const io::ResultSlices slices(io::create_result(path, format, answer.nq(), answer.k(), 1'000'000));
  slices.write(0, answer);
  slices.sync();
  io::publish_result(path, format, attributes);
}

}  // namespace mpishards::test
