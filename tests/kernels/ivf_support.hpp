#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "core/convert.hpp"
#include "flat_support.hpp"
#include "kernels/cpu/ivf.hpp"
#include "support/oracle.hpp"

namespace mpishards::kernels {

/// An inverted file and what is asked of it, by the plainest means.
struct IvfCase {
  std::int64_t d = 1;
  std::int64_t k = 1;
  Metric metric = Metric::l2;
  std::vector<float> base;           // in the order of the lists
  std::vector<std::int64_t> starts;  // n_lists + 1
  std::vector<std::int64_t> ids;     // empty: row numbers
  std::vector<float> queries;
  std::vector<std::int32_t> probes;  // nq x nprobe

  std::int64_t nb() const { return std::ssize(base) / d; }
  std::int64_t nq() const { return std::ssize(queries) / d; }
  std::int64_t n_lists() const { return std::ssize(starts) - 1; }
  Probes probes_view() const { return {probes.data(), nq(), nq() > 0 ? std::ssize(probes) / nq() : 0}; }
};

/// Rows to lists at random; of the lists some have no rows and some one.
inline std::vector<std::int64_t> random_starts(std::int64_t nb, std::int64_t n_lists, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::int64_t> starts = {0, nb};
  while (std::ssize(starts) < n_lists + 1) {
    const std::int64_t start = std::uniform_int_distribution<std::int64_t>(0, nb)(random);
    starts.push_back(start);
    if (std::ssize(starts) < n_lists + 1 && starts.size() % 5 == 0) starts.push_back(start);
    if (std::ssize(starts) < n_lists + 1 && starts.size() % 7 == 0) starts.push_back(std::min(nb, start + 1));
  }
  std::ranges::sort(starts);
  return starts;
}

/// Each query's lists: all different, in any order.
inline std::vector<std::int32_t> random_probes(std::int64_t nq, std::int64_t nprobe, std::int64_t n_lists,
                                               unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> all(static_cast<std::size_t>(n_lists));
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::int32_t> probes;
  for (std::int64_t q = 0; q < nq; ++q) {
    std::ranges::shuffle(all, random);
    probes.insert(probes.end(), all.begin(), all.begin() + nprobe);
  }
  return probes;
}

/// The k best of the probed lists' rows, by a full sort of distances in double.
inline oracle::Answer search_lists(const IvfCase& what) {
  oracle::Answer answer;
  const Probes probes = what.probes_view();
  for (std::int64_t q = 0; q < what.nq(); ++q) {
    std::vector<float> rows;
    std::vector<std::int64_t> ids;
    for (std::int64_t list = 0; list < what.n_lists(); ++list) {
      if (std::find(probes.row(q), probes.row(q) + probes.cols, list) == probes.row(q) + probes.cols)
        continue;
      for (std::int64_t row = what.starts[std::size_t(list)]; row < what.starts[std::size_t(list) + 1];
           ++row) {
        rows.insert(rows.end(), what.base.begin() + row * what.d, what.base.begin() + (row + 1) * what.d);
        ids.push_back(what.ids.empty() ? row : what.ids[std::size_t(row)]);
      }
    }
    const std::vector<float> query(what.queries.begin() + q * what.d,
                                   what.queries.begin() + (q + 1) * what.d);
    const oracle::Answer one = oracle::search(rows, query, what.d, what.k, measure_of(what.metric), ids);
    answer.neighbors.insert(answer.neighbors.end(), one.neighbors.begin(), one.neighbors.end());
    answer.distances.insert(answer.distances.end(), one.distances.begin(), one.distances.end());
  }
  return answer;
}

struct IvfSettings {
  int threads = 1;
  std::string isa = "auto";
  cpu::IvfOverrides overrides;
};

inline std::string to_string(const IvfSettings& settings) {
  const auto number = [](std::optional<std::int64_t> value) {
    return value ? std::to_string(*value) : std::string("own");
  };
  return settings.isa + " threads " + std::to_string(settings.threads) + " tiles " +
         number(settings.overrides.query_tile) + " " + number(settings.overrides.base_tile) + " chunk " +
         number(settings.overrides.chunk_queries) +
         (settings.overrides.split_base.value_or(false) ? " split" : "");
}

/// Searches rows as they are stored; `base` holds what.base's values.
inline TopK search_ivf(const IvfCase& what, TypedView base, const IvfSettings& settings = {},
                       std::span<const float> bound = {}, SearchCounters* counters = nullptr) {
  const auto index = cpu::make_ivf(what.metric, {settings.threads, settings.isa, 0}, settings.overrides);
  index->build(base, {0, what.ids}, {0, what.starts});
  TopK out(what.nq(), what.k, what.metric);
  index->search(queries_of(what.queries, what.d), what.probes_view(), bound, out);
  if (counters != nullptr) *counters = index->counters();
  return out;
}

inline void expect_exact_in_lists(const IvfCase& what, const IvfSettings& settings = {}) {
  expect_answer(search_ivf(what, view_of(what.base, what.d), settings), search_lists(what),
                std::string(to_string(what.metric)) + " nb " + std::to_string(what.nb()) + " k " +
                    std::to_string(what.k) + " " + to_string(settings));
}

}  // namespace mpishards::kernels
