#pragma once

#include <algorithm>
#include <cstdint>
#include <future>
#include <vector>

#include "io/range.hpp"
#include "io/vector_source.hpp"

namespace mpishards::rank {

/// Into how many pieces so many bytes are cut for threads that read them together: 16 MiB are enough for one.
inline std::int64_t read_pieces(const io::VectorSource& source, std::size_t bytes, int threads) {
  constexpr std::size_t kPieceBytes = std::size_t{16} << 20;
  if (!source.is_read_in_parallel()) return 1;
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(bytes / kPieceBytes), 1, std::max(1, threads));
}

/// Of a rank's threads, those that read while the others search.
inline int threads_beside_search(int threads) {
  return std::max(1, threads / 4);
}

/// Calls read(number, rows) for each piece of [0, count), each in a thread of its own, the first in the
/// caller's.
/// @throws what read of the first piece that failed threw, when all have ended
template <class Read>
void read_in_pieces(std::int64_t count, std::int64_t pieces, Read read) {
  const auto piece = [&](std::int64_t number) {
    read(number, io::Range{count * number / pieces, count * (number + 1) / pieces});
  };
  std::vector<std::future<void>> others;
  for (std::int64_t number = 1; number < pieces; ++number)
    others.push_back(std::async(std::launch::async | std::launch::deferred, piece, number));
  piece(0);
  for (std::future<void>& other : others) other.get();
}

}  // namespace mpishards::rank
