#include "serve/collection.hpp"

#include <algorithm>
#include <cctype>

#include "core/error.hpp"
#include "io/vector_source.hpp"
#include "rank/host_info.hpp"
#include "rank/read_pieces.hpp"
#include "rank/shard_map.hpp"

namespace mpishards::serve {

namespace {

constexpr std::size_t kLongestName = 255;

bool is_name_letter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

void check_source(const io::VectorSource& source) {
  if (source.dtype() == DType::i32 || source.dtype() == DType::i64)
    throw Error(ErrorKind::data, source.name() + " holds " + std::string(to_string(source.dtype())) +
                                     ", which is no vector type");
  if (const std::string problem = source.ids_problem(); !problem.empty())
    throw Error(ErrorKind::data, problem);
  if (source.rows() == 0)
    throw Error(ErrorKind::data, source.name() + " is empty: there is nothing to search in");
}

/// Before anything is read: what does not fit is refused with the numbers.
void check_memory(const io::VectorSource& source, io::Range rows, const rank::SearchEngineConfig& config) {
  const DType kept = source.dtype() == DType::f64 ? DType::f32 : source.dtype();
  const std::int64_t id_bytes = source.has_ids() ? 3 * static_cast<std::int64_t>(sizeof(GlobalId)) : 0;
  const std::int64_t row_bytes = source.cols() * static_cast<std::int64_t>(size_bytes(kept)) + id_bytes;
  const std::int64_t n_rows = rows.end - rows.begin;
  const std::int64_t needed =
      n_rows * row_bytes + rank::SearchEngine::bytes_beside(config, n_rows, source.cols(), kept);
  const std::int64_t available = rank::available_memory_bytes();
  if (needed > available)
    throw Error(ErrorKind::os, source.name() + ": this rank's " + std::to_string(n_rows) +
                                   " rows and their index need " + std::to_string(needed) +
                                   " bytes, its host has " + std::to_string(available) +
                                   " left; use more hosts");
}

double phase_seconds(const PhaseClock& clock, Phase phase) {
  return clock.totals_seconds()[static_cast<std::size_t>(phase)];
}

}  // namespace

void check_collection_name(const std::string& name) {
  const bool fits = !name.empty() && name.size() <= kLongestName &&
                    std::isdigit(static_cast<unsigned char>(name[0])) == 0 &&
                    std::ranges::all_of(name, is_name_letter);
  if (!fits)
    throw Error(
        ErrorKind::usage,
        "'" + name +
            "' is no name for a collection; a letter or underscore, then letters, digits and underscores");
}

CollectionPart::CollectionPart(const CollectionSpec& spec, const rank::SearchEngineConfig& config,
                               const comm::Communicator& comm)
    : metric_(spec.metric) {
  const std::unique_ptr<io::VectorSource> base = io::open_sources(spec.base);
  check_source(*base);
  dim_ = base->cols();
  file_rows_ = base->rows();
  has_ids_ = base->has_ids();
  const io::Range rows = rank::ShardMap({0, file_rows_}, comm.size()).shard(comm.rank());
  check_memory(*base, rows, config);
  // Requests may go on meanwhile.
  const int threads = rank::threads_beside_search(config.options.threads);
  shard_ = rank::ShardLoader(*base, spec.drop_nonfinite, threads).load(rows);
  for (std::size_t row = 0; row < shard_.ids.size(); ++row)
    by_id_.emplace_back(shard_.ids[row], static_cast<std::int64_t>(row));
  std::ranges::sort(by_id_);
}

void CollectionPart::build(const rank::SearchEngineConfig& config, const comm::Communicator& comm) {
  rank::SearchEngineConfig own = config;
  own.metric = metric_;
  engine_ = std::make_unique<rank::SearchEngine>(own, comm, clock_);
  engine_->load(shard_.vectors.view(), shard_.row_ids());
}

TopK CollectionPart::search(Matrix queries, std::int64_t k, Timing& timing, std::int64_t& batch_nq) {
  const double begin = steady_seconds();
  const rank::RoutedBatch batch = engine_->scatter(std::move(queries), dim_);
  batch_nq = batch.batch_nq;
  const double scattered = steady_seconds();
  const double searched_before = phase_seconds(clock_, Phase::search);
  TopK slice = engine_->search(batch, {}, k);
  timing.scatter_seconds = scattered - begin;
  timing.search_seconds = phase_seconds(clock_, Phase::search) - searched_before;
  timing.merge_seconds = steady_seconds() - scattered - timing.search_seconds;
  return slice;
}

/// Places in by_id_ whose ids lie in the interval.
std::pair<std::size_t, std::size_t> CollectionPart::positions_of(IdSet::Interval interval) const {
  using Entry = std::pair<GlobalId, std::int64_t>;
  const auto first = std::ranges::lower_bound(by_id_, interval.first, {}, &Entry::first);
  const auto last = std::ranges::upper_bound(by_id_, interval.last, {}, &Entry::first);
  return {static_cast<std::size_t>(first - by_id_.begin()), static_cast<std::size_t>(last - by_id_.begin())};
}

std::vector<GlobalId> CollectionPart::select(const IdSet& set, std::int64_t limit) const {
  std::vector<GlobalId> ids;
  const auto add = [&](GlobalId id) {
    if (ids.empty() || ids.back() != id) ids.push_back(id);
    return std::ssize(ids) < limit;
  };
  if (limit <= 0) return ids;
  const IdSet own = IdSet::of_interval(shard_.rows.begin, shard_.rows.begin + rows() - 1);
  const bool row_numbers = shard_.ids.empty();
  for (const IdSet::Interval& interval :
       row_numbers ? intersection(set, own).intervals() : std::vector(set.intervals())) {
    if (row_numbers) {
      for (GlobalId id = interval.first; id <= interval.last; ++id)
        if (!add(id)) return ids;
      continue;
    }
    const auto [begin, end] = positions_of(interval);
    for (std::size_t at = begin; at < end; ++at)
      if (!add(by_id_[at].first)) return ids;
  }
  return ids;
}

std::int64_t CollectionPart::count(const IdSet& set) const {
  std::int64_t rows_in_set = 0;
  if (shard_.ids.empty()) {
    const IdSet own = IdSet::of_interval(shard_.rows.begin, shard_.rows.begin + rows() - 1);
    const IdSet both = intersection(set, own);
    for (const IdSet::Interval& interval : both.intervals())
      rows_in_set += interval.last - interval.first + 1;
    return rows_in_set;
  }
  for (const IdSet::Interval& interval : set.intervals()) {
    const auto [begin, end] = positions_of(interval);
    rows_in_set += static_cast<std::int64_t>(end - begin);
  }
  return rows_in_set;
}

std::int64_t CollectionPart::find(GlobalId id) const {
  if (shard_.ids.empty()) {
    const std::int64_t row = id - shard_.rows.begin;
    return id >= shard_.rows.begin && row < rows() ? row : -1;
  }
  const auto [begin, end] = positions_of({id, id});
  return begin < end ? by_id_[begin].second : -1;
}

std::int64_t CollectionPart::bytes() const {
  return static_cast<std::int64_t>(shard_.vectors.bytes() + shard_.ids.size() * sizeof(GlobalId) +
                                   by_id_.size() * sizeof(by_id_[0]) +
                                   (engine_ == nullptr ? 0 : engine_->index().bytes()));
}

}  // namespace mpishards::serve
