#pragma once

#include <cstdint>
#include <future>
#include <optional>
#include <vector>

#include "core/matrix_view.hpp"
#include "io/journal.hpp"
#include "io/vector_source.hpp"
#include "kernels/index.hpp"

namespace mpishards::rank {

/// One rank's rows of a shard group, in memory and checked: every value is finite.
struct Shard {
  io::Range rows;                  // of the whole base
  Matrix vectors;                  // without dropped rows; f64 narrowed to f32
  std::vector<GlobalId> ids;       // empty: rows.begin + position
  std::int64_t dropped_rows = 0;   // non-finite ones, left out
  std::uint64_t content_hash = 0;  // of the rows as stored, see hash_rows
  std::uint64_t ids_hash = 0;      // of the file's own ids, see hash_ids
  std::int64_t bytes_read = 0;
  double read_seconds = 0;

  kernels::RowIds row_ids() const { return {rows.begin, ids}; }
};

/// Reads rows of the base, checks them, and can do so in the background while another shard is searched.
class ShardLoader {
 public:
  /// @param base  must outlive the loader
  /// @param threads  that read, where rows are many; of float64 one
  /// @param with_ids  else the file's own ids are not read
  ShardLoader(const io::VectorSource& base, bool drop_nonfinite, int threads, bool with_ids = true)
      : base_(base),
        drop_nonfinite_(drop_nonfinite),
        threads_(threads),
        with_ids_(with_ids && base.has_ids()) {}

  /// Reads now. @throws Error{data} naming file and row of a value that is not finite; Error{io}
  Shard load(io::Range rows) const { return load(rows, threads_); }

  /// Starts to read in the background, by a part of the threads. @pre nothing was prefetched that was not
  /// taken
  void prefetch(io::Range rows);
  /// Waits for what was prefetched. @throws what load would
  Shard take() { return next_.get(); }

 private:
  Shard load(io::Range rows, int threads) const;

  const io::VectorSource& base_;
  bool drop_nonfinite_;
  int threads_;
  bool with_ids_;
  std::future<Shard> next_;
};

}  // namespace mpishards::rank
