#include "rank/shard_loader.hpp"

#include <cstring>
#include <numeric>

#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"
#include "rank/row_hash.hpp"

namespace mpishards::rank {

namespace {

/// f64 rows as float32; everything else as it is.
Matrix held_form(Matrix stored) {
  if (stored.dtype() != DType::f64) return stored;
  Matrix narrowed(DType::f32, stored.rows(), stored.cols());
  to_float32(DType::f64, stored.data(), stored.rows() * stored.cols(), narrowed.as<float>().data);
  return narrowed;
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

Shard ShardLoader::load(io::Range rows) const {
  const double start = steady_seconds();
  Shard shard;
  shard.rows = rows;
  const std::int64_t count = rows.end - rows.begin;
  Matrix stored = base_.read_matrix(rows.begin, rows.end);
  if (base_.has_ids()) {
    shard.ids.resize(static_cast<std::size_t>(count));
    base_.read_ids(rows.begin, rows.end, shard.ids);
  }
  shard.bytes_read = static_cast<std::int64_t>(stored.bytes() + shard.ids.size() * sizeof(GlobalId));
  shard.read_seconds = steady_seconds() - start;
  shard.content_hash = hash_rows(stored.view(), rows.begin);

  if (const auto bad = first_nonfinite_row(stored.view())) {
    if (!drop_nonfinite_)
      throw Error(ErrorKind::data,
                  base_.describe_row(rows.begin + *bad) +
                      " holds NaN, an infinity or a value beyond float32; repair it, or skip such "
                      "rows with --nonfinite drop");
    const std::vector<std::int64_t> kept = keep_finite_rows(stored, *bad);
    std::vector<GlobalId> ids;
    for (const std::int64_t row : kept) ids.push_back(shard.row_ids()[row]);
    shard.ids = std::move(ids);
    shard.dropped_rows = count - static_cast<std::int64_t>(kept.size());
  }
  shard.vectors = held_form(std::move(stored));
  return shard;
}

void ShardLoader::prefetch(io::Range rows) {
  next_ = std::async(std::launch::async, [this, rows] { return load(rows); });
}

}  // namespace mpishards::rank
