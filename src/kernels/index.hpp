#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "core/range_hits.hpp"
#include "core/topk.hpp"

namespace mpishards::kernels {

/// Ids of a shard's rows: `explicit_ids` where the file has its own or rows were dropped, else first + row.
struct RowIds {
  GlobalId first = 0;
  std::span<const GlobalId> explicit_ids;

  GlobalId operator[](std::int64_t row) const {
    return explicit_ids.empty() ? first + row : explicit_ids[static_cast<std::size_t>(row)];
  }
};

/// Rows of a shard by the list of an inverted file that they belong to.
struct RowLists {
  std::int64_t first_list = 0;  // number of the list that the first rows belong to
  // Rows starts[i]..starts[i + 1] are of list first_list + i; empty: no lists.
  std::span<const std::int64_t> starts;

  std::int64_t count() const { return starts.empty() ? 0 : std::ssize(starts) - 1; }
};

/// Lists that queries look into: nq x nprobe list numbers, the nearest list first. Lists that a shard does
/// not hold, and negative numbers (padding), are skipped; a list named twice is looked into once.
using Probes = MatrixView<const std::int32_t>;

/// What a search did, summed over queries and shards; adding two is adding their work.
struct SearchCounters {
  std::int64_t queries = 0;     // query x shard pairs searched
  std::int64_t certified = 0;   // of those, proved exact at the first try
  std::int64_t widened = 0;     // of those, needed more candidates, or a slower arithmetic, to be proved
  std::int64_t candidates = 0;  // rows that the screen could not exclude
  std::int64_t reranked = 0;    // rows whose distance was computed in double
  std::int64_t distances = 0;   // query x row pairs that were screened

  SearchCounters& operator+=(const SearchCounters& other);
};

/// How an index may use the machine it runs on.
struct EngineOptions {
  int threads = 1;           // >= 1
  std::string isa = "auto";  // CPU kernel family: "auto" or a name from isa_names()
  int device = 0;            // CUDA device ordinal
  int device_ranks = 1;      // processes that share that device's memory
};

/// Which rows count as hits where the queries are rows of the base themselves.
enum class RangePairs : std::uint8_t {
  all,     // queries are other vectors
  others,  // every row but the query itself
  later,   // rows with a larger id: each pair once
};

/// All rows within a limit.
struct RangeRequest {
  // l2: squared distance at most this; ip, cosine: similarity at least this; compared with the float32 that
  // is written.
  float limit = 0;
  std::int64_t max_hits = 0;  // of all queries together
  RangePairs pairs = RangePairs::all;
  GlobalId first_query = 0;  // query q is the row with id first_query + q, unless pairs is `all`
};

/// One shard's vectors, ready to be searched. Not thread safe: one search at a time; it uses its own threads.
class Index {
 public:
  virtual ~Index() = default;

  /// Takes the rows by reference: `base`, `ids` and `lists` must outlive the index or the next build.
  ///
  /// May be called again with other rows (streaming); scratch memory is kept.
  /// @param base   nb x d, host, any vector dtype; every value is finite; nb may be 0
  /// @param lists  of all rows, in order; lists may have no rows, and the first and the last one may go on in
  ///               other shards. An index type that has no use for lists ignores them.
  /// @throws Error{internal} where an inverted file gets no lists, or lists that are not those of nb rows
  virtual void build(TypedView base, RowIds ids, RowLists lists) = 0;
  void build(TypedView base, RowIds ids) { build(base, ids, {}); }

  /// Finds the k best rows of every query, exactly: order and distances of fp64 arithmetic on the stored
  /// values, rounded once to float32, ties by smaller id.
  ///
  /// @param queries  nq x d, host; every value is finite
  /// @param probes   nq x nprobe: only rows of these lists are looked at; empty where the index has no lists
  /// @param bound    empty, or nq distances: entries worse than bound[q] may be left out of row q (equal ones
  /// may not),
  ///                 because k neighbors at least that good are known elsewhere
  /// @param[out] out nq x k; best first; padded with kNoNeighbor and worst_distance(metric)
  /// @pre  queries.cols == d of build (or nb == 0); 1 <= k; bound is empty or nq long
  /// @throws Error{internal} for probes where there are no lists, and the other way round
  virtual void search(MatrixView<const float> queries, Probes probes, std::span<const float> bound,
                      TopK& out) = 0;
  void search(MatrixView<const float> queries, std::span<const float> bound, TopK& out) {
    search(queries, {}, bound, out);
  }

  /// Finds all rows within the limit of every query, exactly, each query's ordered by Closer.
  ///
  /// @param queries   nq x d, host; every value is finite
  /// @param[out] out  nq queries' hits; empty where there are more than request.max_hits
  /// @return false where there are more than request.max_hits: ask for fewer queries at once
  /// @pre  queries.cols == d of build (or nb == 0); request.limit is no NaN
  /// @throws Error{unavailable} where the index type has no such search
  /// @par Memory  beside the index at most kBytesPerRangeHit * max_hits and the engine's scratch, see
  /// plan_cpu_range_search
  virtual bool search_range(MatrixView<const float> queries, const RangeRequest& request, RangeHits& out);

  virtual const SearchCounters& counters() const = 0;
  /// Memory held beyond the caller's rows, in bytes.
  virtual std::size_t bytes() const = 0;
  /// What computes: "cpu avx2 (OpenBLAS sgemm)", for the report.
  virtual std::string description() const = 0;
};

/// What a range search holds of each hit at most: unsorted, sorted, and as the answer.
inline constexpr std::int64_t kBytesPerRangeHit = 96;

/// A row of the registry: index type x engine.
struct IndexRow {
  std::string_view type;    // "flat"
  std::string_view engine;  // "cpu", "cuda"
  std::unique_ptr<Index> (*make)(Metric metric, const EngineOptions& options);
  std::string_view help;
};
std::span<const IndexRow> index_registry();

/// @throws Error{unavailable} where the build or the machine lacks the engine; Error{usage} for an unknown
/// name
std::unique_ptr<Index> make_index(std::string_view type, std::string_view engine, Metric metric,
                                  const EngineOptions& options);

/// "cpu" for "auto": the CUDA engine is taken where it is asked for by name, until it has run on devices.
std::string resolve_engine(std::string_view engine);

/// CPU instruction sets that this build has kernels for and this machine can run, best first ("avx2",
/// "portable").
std::vector<std::string> isa_names();

/// Place of the CPU instruction set that this machine takes for a name, "auto" or one of isa_names(), among
/// all that builds have, best first; so that ranks on unlike machines can agree on one plan.
/// @throws Error{usage} for an unknown name, Error{unavailable} where this machine lacks the instructions
int isa_place(std::string_view name);
/// Name of the one at a place.
std::string isa_at(int place);

}  // namespace mpishards::kernels
