#include "rank/shard_loader.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "core/convert.hpp"
#include "core/timer.hpp"
#include "rank/finite_rows.hpp"
#include "rank/read_pieces.hpp"
#include "rank/row_hash.hpp"
#include "rank/stored_rows.hpp"

namespace mpishards::rank {

namespace {

/// Rows as they are kept, and what they were in the file.
struct HeldRows {
  Matrix vectors;
  std::uint64_t content_hash = 0;
  std::int64_t bytes_read = 0;
  std::optional<std::int64_t> bad_row;
};

HeldRows read_as_stored(const io::VectorSource& base, io::Range rows, int threads) {
  StoredRows stored = read_stored_rows(base, rows, threads);
  const auto bytes = static_cast<std::int64_t>(stored.rows.bytes());
  return {std::move(stored.rows), stored.content_hash, bytes, stored.bad_row};
}

/// f64 becomes float32 block by block: the plan counts the narrow rows, so the wide ones must never be whole.
HeldRows read_narrowed(const io::VectorSource& base, io::Range rows) {
  constexpr std::int64_t kBlockValues = 1 << 17;
  HeldRows held;
  held.vectors = Matrix(DType::f32, rows.end - rows.begin, base.cols());
  const std::int64_t step = std::max<std::int64_t>(1, kBlockValues / std::max<std::int64_t>(1, base.cols()));
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += step) {
    const std::int64_t end = std::min(begin + step, rows.end);
    const Matrix wide = base.read_matrix(begin, end);
    held.content_hash += hash_rows(wide.view(), begin);
    held.bytes_read += static_cast<std::int64_t>(wide.bytes());
    to_float32(DType::f64, wide.data(), (end - begin) * base.cols(),
               held.vectors.as<float>().data + (begin - rows.begin) * base.cols());
  }
  held.bad_row = first_nonfinite_row(held.vectors.view());  // a value beyond float32 has become an infinity
  return held;
}

/// Moves the finite rows together and returns their positions before.
std::vector<std::int64_t> keep_finite_rows(Matrix& vectors, std::int64_t first_bad) {
  std::vector<std::int64_t> kept(static_cast<std::size_t>(first_bad));
  std::iota(kept.begin(), kept.end(), std::int64_t{0});
  const TypedView view = vectors.view();
  std::int64_t bad = first_bad;
  for (std::int64_t row = first_bad; row < view.rows; ++row) {
    if (row == bad) {
      bad = first_nonfinite_row(view, row + 1).value_or(view.rows);
      continue;
    }
    std::memcpy(vectors.data() + kept.size() * view.row_bytes(), view.row(row), view.row_bytes());
    kept.push_back(row);
  }
  vectors.shrink_rows(static_cast<std::int64_t>(kept.size()));
  return kept;
}

}  // namespace

Shard ShardLoader::load(io::Range rows, int threads) const {
  const double start = steady_seconds();
  Shard shard;
  shard.rows = rows;
  const std::int64_t count = rows.end - rows.begin;
  HeldRows held =
      base_.dtype() == DType::f64 ? read_narrowed(base_, rows) : read_as_stored(base_, rows, threads);
  if (with_ids_) {
    shard.ids.resize(static_cast<std::size_t>(count));
    base_.read_ids(rows.begin, rows.end, shard.ids);
    shard.ids_hash = hash_ids(shard.ids, rows.begin);
  }
  shard.bytes_read = held.bytes_read + static_cast<std::int64_t>(shard.ids.size() * sizeof(GlobalId));
  shard.read_seconds = steady_seconds() - start;
  shard.content_hash = held.content_hash;
  shard.vectors = std::move(held.vectors);

  if (held.bad_row) {
    if (!drop_nonfinite_) refuse_nonfinite(base_, rows.begin + *held.bad_row);
    const std::vector<std::int64_t> kept = keep_finite_rows(shard.vectors, *held.bad_row);
    std::vector<GlobalId> ids;
    for (const std::int64_t row : kept) ids.push_back(shard.row_ids()[row]);
    shard.ids = std::move(ids);
    shard.dropped_rows = count - static_cast<std::int64_t>(kept.size());
  }
  return shard;
}

void ShardLoader::prefetch(io::Range rows) {
  next_ =
      std::async(std::launch::async, [this, rows] { return load(rows, threads_beside_search(threads_)); });
}

}  // namespace mpishards::rank
