#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "core/topk.hpp"
#include "merge/merge_strategy.hpp"

namespace mpishards::merge::test {

/// What the ranks of one merge hold. Every rank can make every rank's part from the seed, so that the
/// expected answer needs no communication.
struct Case {
  std::int64_t nq = 0;
  std::int64_t k = 1;
  Metric metric = Metric::l2;
  bool ties = false;         // distances from a handful of values, infinity among them
  bool short_lists = false;  // 0 to k entries a row instead of k
  std::uint32_t seed = 1;
};

struct Found {
  double key;  // smaller is better, whatever the metric
  GlobalId id;
  float distance;
};

/// Better first, then smaller id: written here anew, so that the test shares no comparison with the program.
inline void sort_by_key(std::vector<Found>& list) {
  std::sort(list.begin(), list.end(),
            [](const Found& a, const Found& b) { return std::pair(a.key, a.id) < std::pair(b.key, b.id); });
}

inline std::vector<Found> found_by(const Case& c, int rank, int n_ranks, std::int64_t q) {
  std::mt19937 random(c.seed + 7919u * static_cast<std::uint32_t>(rank) +
                      104729u * static_cast<std::uint32_t>(q));
  const std::int64_t length =
      c.short_lists ? std::uniform_int_distribution<std::int64_t>(0, c.k)(random) : c.k;
  const bool larger = c.metric != Metric::l2;
  std::vector<Found> list;
  for (std::int64_t i = 0; i < length; ++i) {
    float distance = std::uniform_real_distribution<float>(-1, 1)(random);
    if (c.ties) {
      const int value = std::uniform_int_distribution<int>(0, 3)(random);
      const float worst = (larger ? -1.0f : 1.0f) * std::numeric_limits<float>::infinity();
      distance = value == 3 ? worst : static_cast<float>(value);
    }
    // Ids of all ranks are interleaved: equal distances change rank at every id.
    const GlobalId id = i * n_ranks + rank;
    list.push_back({larger ? -static_cast<double>(distance) : distance, id, distance});
  }
  sort_by_key(list);
  return list;
}

inline void put(const std::vector<Found>& list, std::int64_t q, TopK& rows) {
  for (std::size_t i = 0; i < list.size() && i < static_cast<std::size_t>(rows.k()); ++i) {
    rows.row(q).neighbors[i] = list[i].id;
    rows.row(q).distances[i] = list[i].distance;
  }
}

inline TopK local_answer(const Case& c, int rank, int n_ranks) {
  TopK rows(c.nq, c.k, c.metric);
  for (std::int64_t q = 0; q < c.nq; ++q) put(found_by(c, rank, n_ranks, q), q, rows);
  return rows;
}

/// Queries [begin, end) of the merged answer: all entries of all ranks, sorted.
inline TopK expected_answer(const Case& c, int n_ranks, std::int64_t begin, std::int64_t end) {
  TopK rows(end - begin, c.k, c.metric);
  for (std::int64_t q = begin; q < end; ++q) {
    std::vector<Found> all;
    for (int rank = 0; rank < n_ranks; ++rank)
      for (const Found& found : found_by(c, rank, n_ranks, q)) all.push_back(found);
    sort_by_key(all);
    put(all, q - begin, rows);
  }
  return rows;
}

inline std::vector<Case> cases() {
  std::vector<Case> all;
  std::uint32_t seed = 1;
  for (const Metric metric : {Metric::l2, Metric::ip, Metric::cosine})
    for (const bool ties : {false, true})
      for (const bool short_lists : {false, true})
        for (const std::int64_t nq : {0, 1, 2, 5, 13, 64, 301})
          for (const std::int64_t k : {1, 2, 7, 10, 100})
            if (nq * k <= 3010) all.push_back({nq, k, metric, ties, short_lists, ++seed});
  return all;
}

}  // namespace mpishards::merge::test
