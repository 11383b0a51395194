#pragma once

#include <cstddef>
#include <cstdint>

#include "core/metric.hpp"
#include "core/types.hpp"
#include "kernels/cuda/stream.hpp"
#include "kernels/half_bound.hpp"

// The kernels of the flat index, as host code sees them. Pointers are the device's unless a name says host;
// every function returns when the work is in the stream, and throws Error{cuda} where it could not be put
// there.
namespace mpishards::kernels::cuda {

/// A shard's rows as they are stored.
struct StoredRows {
  DType dtype = DType::f32;
  const std::byte* values = nullptr;  // rows x d; the device's, or host memory that it can read
  std::int64_t rows = 0;
  std::int64_t d = 0;
  const GlobalId* ids = nullptr;  // null: first_id + row
  GlobalId first_id = 0;
};

/// The same rows as they are screened.
struct ScreenedRows {
  std::uint16_t* plane = nullptr;  // rows x cols, binary16, padded with zeros
  float* bias = nullptr;           // l2: -|x|^2/2, scaled; else null
  RowBound* bounds = nullptr;      // one for each kBoundRows rows
  std::int64_t cols = 0;
  int exponent = 0;
};

/// A chunk of queries and what is known of their answers.
struct QueryChunk {
  std::int64_t nq = 0;
  std::int64_t d = 0;
  std::int64_t k = 0;               // no more than the shard's rows
  const float* values = nullptr;    // nq x d
  std::uint16_t* plane = nullptr;   // nq x cols of the rows' plane
  QueryBound* bounds = nullptr;     // nq
  ScoreCut* score_cuts = nullptr;   // nq
  double* cuts = nullptr;           // nq: rows with S below are out
  int* counts = nullptr;            // nq: candidates held
  Candidate* candidates = nullptr;  // nq x capacity
  std::int64_t capacity = 0;
  float* distances = nullptr;          // nq x k, exact, best first, padded
  GlobalId* neighbors = nullptr;       // nq x k
  std::uint8_t* widened = nullptr;     // nq
  std::uint8_t* overflowed = nullptr;  // nq: had more candidates than capacity, so its answer is not complete
};

/// Sums over queries, added to atomically.
struct DeviceCounters {
  unsigned long long candidates = 0;
  unsigned long long reranked = 0;
};

/// max_abs = max(max_abs, |value|) over all values. @param[in,out] max_abs  one float, not negative
void find_max_abs(const Stream& stream, const StoredRows& rows, float* max_abs);

/// Fills plane, bias and bounds. @par Cost  reads every stored value once
void pack_rows(const Stream& stream, Metric metric, const StoredRows& rows, const ScreenedRows& screened);

/// Fills plane, bounds, score_cuts and cuts, and begins with no candidates and padded answers.
/// @param bound  null, or nq distances that k neighbors elsewhere keep
/// @param max_row_norm  at least the norm of every base row
void begin_queries(const Stream& stream, Metric metric, const ScreenedRows& rows, const float* bound,
                   double max_row_norm, const QueryChunk& queries);

/// One tile of scores and the rows that they are of: score i is of row first + i * stride.
struct ScoredTile {
  const float* products = nullptr;  // nq x pitch, sums of plane products
  std::int64_t pitch = 0;
  std::int64_t first = 0;  // a multiple of kBoundRows
  std::int64_t rows = 0;
  std::int64_t stride = 1;
  bool is_sample = false;  // all of it becomes candidates
};

/// Appends the rows of a tile that the screen can't exclude. @pre counts leave room for tile.rows each
void filter_tile(const Stream& stream, Metric metric, const ScreenedRows& rows, const ScoredTile& tile,
                 const QueryChunk& queries, double error_factor);

/// Product and filter of rows [begin, end) in one kernel; no products are written. Where a query gets more
/// candidates than capacity, its count says so and the rest are lost.
/// @param shares  parts of the rows that thread blocks take beside each other
/// @pre begin is a multiple of kBoundRows; fused_shared_bytes(rows.cols) fit into a block
void screen_fused(const Stream& stream, Metric metric, const ScreenedRows& rows, std::int64_t begin,
                  std::int64_t end, const QueryChunk& queries, std::int64_t shares, double error_factor);

/// What settling leaves behind.
enum class Settle : std::uint8_t {
  cuts_only,  // what the candidates prove, without them: after a sample
  room,       // at most `room` candidates; where bounds don't prune them, they are re-ranked
  answers,    // everything re-ranked: the k best
};

/// Thread blocks that settle queries, each with scratch for a sort.
struct SettleScratch {
  Neighbor* entries = nullptr;  // blocks x sort_entries
  std::int64_t blocks = 0;
  std::int64_t sort_entries = 0;  // a power of two, at least k + capacity
};

/// Prunes candidates by the k-th best lower bound, and re-ranks what is left as `settle` says. Queries whose
/// count exceeds the capacity are marked as overflowed and get no more candidates.
/// @param room  candidates that may stay
void settle_queries(const Stream& stream, Metric metric, Settle settle, const StoredRows& rows,
                    const ScreenedRows& screened, const QueryChunk& queries, std::int64_t room,
                    const SettleScratch& scratch, double error_factor, DeviceCounters* counters);

}  // namespace mpishards::kernels::cuda
