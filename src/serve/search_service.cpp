#include "serve/search_service.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <unordered_set>
#include <utility>

#include "core/convert.hpp"
#include "kernels/distance.hpp"

namespace mpishards::serve {

namespace {

/// Answers with more bytes than this are prepared beside the engine's thread.
constexpr std::int64_t kQuickAnswerBytes = 64 << 10;
/// Query x row pairs that are scored one by one where a filter leaves so few.
constexpr std::int64_t kScoredPairs = 2'000'000;
/// Rows that a filter may exclude for the search to ask for that many more at once.
constexpr std::int64_t kExcludedAtOnce = 1 << 16;
constexpr std::int64_t kFetchedAtOnceBytes = 64 << 20;
constexpr std::string_view kCount = "count(*)";

[[noreturn]] void refuse(Code code, const std::string& reason) {
  throw RequestError(code, reason);
}

bool is_near_enough(const SearchQuery& query, Metric metric, float distance) {
  const auto d = static_cast<double>(distance);
  if (smaller_is_better(metric))
    return (!query.radius || d < *query.radius) && (!query.range_filter || d >= *query.range_filter);
  return (!query.radius || d > *query.radius) && (!query.range_filter || d <= *query.range_filter);
}

/// Whether no entry behind one with this distance can lie within the radius.
bool is_beyond_radius(const SearchQuery& query, Metric metric, float distance) {
  if (!query.radius) return false;
  const auto d = static_cast<double>(distance);
  return smaller_is_better(metric) ? d >= *query.radius : d <= *query.radius;
}

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return result;
}

void check_search(const SearchQuery& query, const CollectionInfo& info) {
  if (!query.metric.empty() && upper(query.metric) != upper(to_string(info.metric)))
    refuse(Code::invalid_parameter, "metric type not match: invalid [expected=" +
                                        upper(to_string(info.metric)) + "][actual=" + query.metric + "]");
  if (!query.vector_field.empty() && query.vector_field != kVectorField)
    refuse(Code::field_not_found, "failed to get field schema by name: fieldName(" + query.vector_field +
                                      ") not found: the vector field is '" + std::string(kVectorField) + "'");
  if (query.limit < 1)
    refuse(Code::invalid_parameter,
           "topk [" + std::to_string(query.limit) + "] is invalid: it should be 1 or more");
  if (query.offset < 0)
    refuse(Code::invalid_parameter,
           "offset [" + std::to_string(query.offset) + "] is invalid: it should be 0 or more");
  if (query.queries.rows() < 1) refuse(Code::invalid_parameter, "nq [0] is invalid: there are no queries");
  if (query.queries.cols() != info.dim)
    refuse(Code::invalid_parameter, "vector dimension mismatch: expected vector size(dim) " +
                                        std::to_string(info.dim) + ", actual " +
                                        std::to_string(query.queries.cols()));
  if (query.round_decimal < -1 || query.round_decimal > 6)
    refuse(Code::invalid_parameter, "round_decimal [" + std::to_string(query.round_decimal) +
                                        "] is invalid: it should be -1, or 0 to 6");
  if (query.radius && query.range_filter) {
    const bool fits = smaller_is_better(info.metric) ? *query.radius > *query.range_filter
                                                     : *query.radius < *query.range_filter;
    if (!fits)
      refuse(Code::invalid_parameter, "range_filter must be " +
                                          std::string(smaller_is_better(info.metric) ? "less" : "greater") +
                                          " than radius for metric " + upper(to_string(info.metric)));
  }
  if (const auto row = first_nonfinite_row(query.queries.view()))
    refuse(Code::invalid_parameter, "query " + std::to_string(*row) + " holds NaN or an infinity");
}

/// Resolves "*" and refuses unknown names.
std::vector<std::string> resolve_fields(const std::vector<std::string>& asked) {
  std::vector<std::string> fields;
  const auto add = [&](std::string_view field) {
    if (std::ranges::find(fields, field) == fields.end()) fields.emplace_back(field);
  };
  for (const std::string& name : asked) {
    if (name == "*") {
      add(kIdField);
      add(kVectorField);
    } else if (name == kIdField || name == kVectorField) {
      add(name);
    } else {
      refuse(Code::field_not_found, "field " + name + " not exist");
    }
  }
  return fields;
}

/// Rows always come with their ids.
std::vector<std::string> with_id(std::vector<std::string> fields) {
  if (std::ranges::find(fields, kIdField) == fields.end()) fields.emplace(fields.begin(), kIdField);
  return fields;
}

bool wants_vectors(const std::vector<std::string>& fields) {
  return std::ranges::find(fields, kVectorField) != fields.end();
}

void check_loaded(const CollectionInfo& info) {
  if (info.state == LoadState::loaded) return;
  refuse(Code::collection_not_loaded, "collection not loaded[database=default][collection=" + info.name +
                                          "]" +
                                          (info.state == LoadState::loading ? ": it is being loaded" : ""));
}

float round_to(float value, int digits) {
  const double scale = std::pow(10.0, digits);
  return static_cast<float>(std::round(static_cast<double>(value) * scale) / scale);
}

/// Appends what the query asked for of one row of an answer: hits that `accept` takes, without the offset.
template <class Accept>
void append_hits(const SearchQuery& query, const CollectionInfo& info, ConstNeighborRow row,
                 const Accept& accept, SearchResult& result) {
  std::int64_t skipped = 0;
  std::int64_t taken = 0;
  std::unordered_set<GlobalId> seen;
  for (std::size_t i = 0; i < row.neighbors.size() && taken < query.limit; ++i) {
    const GlobalId id = row.neighbors[i];
    if (id == kNoNeighbor) break;
    // Rows of a file may share an id: only the best of them is a hit.
    if (info.has_ids && !seen.insert(id).second) continue;
    if (!accept(id, row.distances[i])) continue;
    if (skipped++ < query.offset) continue;
    result.ids.push_back(id);
    result.distances.push_back(query.round_decimal < 0 ? row.distances[i]
                                                       : round_to(row.distances[i], query.round_decimal));
    ++taken;
  }
  result.counts.push_back(taken);
}

void take_engine_answer(SearchAnswer& answer, SearchResult& result) {
  if (result.batches.empty()) result.queue_seconds = answer.queue_seconds;
  result.batches.insert(result.batches.end(), answer.batches.begin(), answer.batches.end());
}

double score(Metric metric, const float* query, const float* row, std::int64_t d) {
  switch (metric) {
    case Metric::l2:
      return kernels::l2_squared(query, row, d);
    case Metric::ip:
      return kernels::dot_product(query, row, d);
    case Metric::cosine:
      break;
  }
  return kernels::cosine_similarity(kernels::dot_product(query, row, d),
                                    kernels::dot_product(query, query, d), kernels::dot_product(row, row, d));
}

}  // namespace

/// A search with a filter or a range: the k best rows are asked for, with k growing until what passes is
/// enough.
///
/// Exact, because what passes among the k best is the beginning of all that passes. Filters that leave few
/// rows are answered by scoring these one by one, with the engine's own arithmetic.
class SearchService::FilteredSearch : public std::enable_shared_from_this<FilteredSearch> {
 public:
  FilteredSearch(SearchService& service, SearchQuery query, SearchResult result, IdSet allowed,
                 std::function<void(SearchResult)> done)
      : service_(service),
        query_(std::move(query)),
        result_(std::move(result)),
        allowed_(std::move(allowed)),
        done_(std::move(done)) {
    rows_.resize(static_cast<std::size_t>(query_.queries.rows()));
    open_.resize(rows_.size());
    std::iota(open_.begin(), open_.end(), std::int64_t{0});
  }

  void start() {
    const CollectionInfo& info = *result_.collection;
    needed_ = std::min(info.rows, query_.limit + query_.offset);
    const Status posted = service_.batcher_.post([self = shared_from_this()] { self->count_allowed(); });
    if (!posted.is_ok()) fail(posted);
  }

 private:
  struct Row {
    std::vector<GlobalId> neighbors;
    std::vector<float> distances;
  };

  void fail(Status status) {
    result_.status = std::move(status);
    done_(std::move(result_));
  }

  void guarded(const std::function<void()>& step) {
    try {
      step();
    } catch (...) {
      fail(status_of_current_exception());
    }
  }

  /// On the engine's thread: chooses how to go on.
  void count_allowed() {
    guarded([&] {
      const CollectionInfo& info = *result_.collection;
      const std::int64_t allowed =
          allowed_.is_all() ? info.rows : service_.cluster_.count(info.slot, allowed_);
      if (allowed == 0) return conclude();
      if (!allowed_.is_all() && allowed <= kScoredPairs / query_.queries.rows()) {
        std::vector<GlobalId> ids = service_.cluster_.select(info.slot, allowed_, allowed);
        if (std::ssize(ids) == allowed) return score_rows(std::move(ids));
      }
      const std::int64_t excluded = info.rows - allowed;
      const bool is_enough = !query_.range_filter && excluded <= kExcludedAtOnce;
      ask(is_enough ? needed_ + excluded : 2 * needed_ + kFirstSurplus);
    });
  }

  void score_rows(std::vector<GlobalId> ids) {
    auto rows = std::make_shared<Matrix>(to_float32(service_.fetch(*result_.collection, ids)));
    service_.executor_.run([self = shared_from_this(), rows, ids = std::move(ids)] {
      self->guarded([&] { self->score_rows_of(*rows, ids); });
    });
  }

  void score_rows_of(Matrix& rows, const std::vector<GlobalId>& ids) {
    const CollectionInfo& info = *result_.collection;
    const Closer closer(info.metric);
    std::vector<std::pair<float, GlobalId>> scored(ids.size());
    for (std::int64_t q = 0; q < query_.queries.rows(); ++q) {
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const double value = score(info.metric, query_.queries.as<float>().row(q),
                                   rows.as<float>().row(static_cast<std::int64_t>(i)), info.dim);
        scored[i] = {static_cast<float>(value), ids[i]};
      }
      std::ranges::sort(
          scored, [&](const auto& a, const auto& b) { return closer(a.second, a.first, b.second, b.first); });
      Row& row = rows_[static_cast<std::size_t>(q)];
      for (const auto& [distance, id] : scored) {
        row.neighbors.push_back(id);
        row.distances.push_back(distance);
      }
    }
    conclude();
  }

  /// Searches the queries that are still open for their k best rows.
  void ask(std::int64_t k) {
    const CollectionInfo& info = *result_.collection;
    SearchRequest request;
    request.slot = info.slot;
    request.collection = info.name;
    request.metric = info.metric;
    request.k = std::min(info.rows, k);
    result_.k = std::max(result_.k, request.k);
    request.queries = Matrix(DType::f32, std::ssize(open_), info.dim);
    for (std::size_t i = 0; i < open_.size(); ++i)
      std::copy_n(query_.queries.as<float>().row(open_[i]), info.dim,
                  request.queries.as<float>().row(static_cast<std::int64_t>(i)));
    request.context = query_.context;
    request.done = [self = shared_from_this()](SearchAnswer answer) {
      auto shared = std::make_shared<SearchAnswer>(std::move(answer));
      self->service_.executor_.run([self, shared] { self->guarded([&] { self->take(*shared); }); });
    };
    service_.batcher_.submit(std::move(request));
  }

  void take(SearchAnswer& answer) {
    if (!answer.status.is_ok()) return fail(answer.status);
    take_engine_answer(answer, result_);
    const CollectionInfo& info = *result_.collection;
    const std::int64_t k = answer.top.k();
    std::vector<std::int64_t> still_open;
    for (std::size_t i = 0; i < open_.size(); ++i) {
      const ConstNeighborRow row = std::as_const(answer.top).row(static_cast<std::int64_t>(i));
      std::int64_t passing = 0;
      for (std::size_t j = 0; j < row.neighbors.size(); ++j)
        passing += is_hit(row.neighbors[j], row.distances[j]) ? 1 : 0;
      const bool is_all = k >= info.rows || row.neighbors.back() == kNoNeighbor ||
                          is_beyond_radius(query_, info.metric, row.distances.back());
      if (passing < needed_ && !is_all) {
        still_open.push_back(open_[i]);
        continue;
      }
      rows_[static_cast<std::size_t>(open_[i])] = {{row.neighbors.begin(), row.neighbors.end()},
                                                   {row.distances.begin(), row.distances.end()}};
    }
    open_ = std::move(still_open);
    if (open_.empty()) return conclude();
    ask(k > std::numeric_limits<std::int64_t>::max() / kGrowth ? info.rows : k * kGrowth);
  }

  bool is_hit(GlobalId id, float distance) const {
    return id != kNoNeighbor && allowed_.contains(id) &&
           is_near_enough(query_, result_.collection->metric, distance);
  }

  void conclude() {
    for (const Row& row : rows_)
      append_hits(
          query_, *result_.collection, {row.neighbors, row.distances},
          [&](GlobalId id, float distance) { return is_hit(id, distance); }, result_);
    service_.add_vectors(std::move(result_), std::move(done_));
  }

  static constexpr std::int64_t kFirstSurplus = 64;
  static constexpr std::int64_t kGrowth = 4;

  SearchService& service_;
  SearchQuery query_;
  SearchResult result_;
  IdSet allowed_;
  std::function<void(SearchResult)> done_;
  std::int64_t needed_ = 0;
  std::vector<Row> rows_;           // by query
  std::vector<std::int64_t> open_;  // queries without enough hits so far
};

void SearchService::check_database(std::string_view database) {
  if (!database.empty() && database != kDefaultDatabase)
    refuse(Code::database_not_found, "database not found[database=" + std::string(database) + "]");
}

void SearchService::check_partitions(const std::vector<std::string>& partitions) {
  for (const std::string& name : partitions)
    if (name != kDefaultPartition) refuse(Code::partition_not_found, "partition name " + name + " not found");
}

CollectionPtr SearchService::describe(std::string_view database, std::string_view collection) const {
  check_database(database);
  CollectionPtr info = cluster_.catalogue().find(collection);
  if (info == nullptr)
    refuse(Code::collection_not_found,
           "can't find collection[database=default][collection=" + std::string(collection) + "]");
  return info;
}

std::vector<CollectionPtr> SearchService::list(std::string_view database) const {
  check_database(database);
  return cluster_.catalogue().all();
}

Status SearchService::load(const CollectionPtr& collection) {
  if (collection->state != LoadState::released) return {};
  return batcher_.post([this, slot = collection->slot] {
    if (cluster_.catalogue().at(slot)->state == LoadState::released) loader_.request(slot);
  });
}

void SearchService::release(const CollectionPtr& collection, std::function<void(Status)> done) {
  const Status posted = batcher_.post([this, slot = collection->slot, done] {
    loader_.release(slot);
    done({});
  });
  if (!posted.is_ok()) done(posted);
}

void SearchService::search(SearchQuery query, std::function<void(SearchResult)> done) {
  ++active_;
  search_rows(std::move(query), [this, done = std::move(done)](SearchResult result) {
    done(std::move(result));
    --active_;
  });
}

void SearchService::query(RowQuery query, std::function<void(RowResult)> done) {
  ++active_;
  query_rows(std::move(query), [this, done = std::move(done)](RowResult result) {
    done(std::move(result));
    --active_;
  });
}

void SearchService::search_rows(SearchQuery query, std::function<void(SearchResult)> done) {
  SearchResult result;
  try {
    if (draining_) refuse(Code::not_ready, "the server is shutting down");
    result.collection = describe(query.database, query.collection);
    const CollectionInfo& info = *result.collection;
    check_partitions(query.partitions);
    check_loaded(info);
    check_search(query, info);
    result.output_fields = resolve_fields(query.output_fields);
    const std::int64_t needed =
        query.limit > info.rows - std::min(info.rows, query.offset) ? info.rows : query.limit + query.offset;
    query.limit = std::min(query.limit, info.rows);
    query.offset = std::min(query.offset, info.rows);
    IdSet allowed = parse_expression(query.filter, kIdField, query.templates);
    if (allowed.is_all() && !query.radius && !query.range_filter)
      return search_all(std::move(query), std::move(result), needed, std::move(done));
    std::make_shared<FilteredSearch>(*this, std::move(query), std::move(result), std::move(allowed),
                                     std::move(done))
        ->start();
  } catch (...) {
    result.status = status_of_current_exception();
    done(std::move(result));
  }
}

void SearchService::search_all(SearchQuery query, SearchResult result, std::int64_t k,
                               std::function<void(SearchResult)> done) {
  struct State {
    SearchQuery query;
    SearchResult result;
    std::function<void(SearchResult)> done;
  };
  const CollectionInfo& info = *result.collection;
  SearchRequest request;
  request.slot = info.slot;
  request.collection = info.name;
  request.metric = info.metric;
  request.queries = std::move(query.queries);
  request.k = k;
  request.context = query.context;
  result.k = k;
  const std::int64_t bytes = planned_bytes(request.queries.rows(), 0, k);
  auto state = std::make_shared<State>(State{std::move(query), std::move(result), std::move(done)});
  request.done = [this, state, bytes](SearchAnswer answer) {
    auto shared = std::make_shared<SearchAnswer>(std::move(answer));
    const auto prepare = [this, state, shared] {
      SearchResult& own = state->result;
      own.status = shared->status;
      if (!own.status.is_ok()) return state->done(std::move(own));
      take_engine_answer(*shared, own);
      try {
        for (std::int64_t q = 0; q < shared->top.nq(); ++q)
          append_hits(
              state->query, *own.collection, std::as_const(shared->top).row(q),
              [](GlobalId, float) { return true; }, own);
      } catch (...) {
        own.status = status_of_current_exception();
        return state->done(std::move(own));
      }
      add_vectors(std::move(own), std::move(state->done));
    };
    if (bytes <= kQuickAnswerBytes)
      prepare();
    else
      executor_.run(prepare);
  };
  batcher_.submit(std::move(request));
}

/// Adds the hits' vectors where they were asked for, and hands the result over.
void SearchService::add_vectors(SearchResult result, std::function<void(SearchResult)> done) {
  if (!wants_vectors(result.output_fields)) return done(std::move(result));
  auto shared = std::make_shared<SearchResult>(std::move(result));
  const Status posted = batcher_.post([this, shared, done] {
    try {
      shared->vectors = fetch(*shared->collection, shared->ids);
    } catch (...) {
      shared->status = status_of_current_exception();
    }
    executor_.run([shared, done] { done(std::move(*shared)); });
  });
  if (posted.is_ok()) return;
  shared->status = posted;
  done(std::move(*shared));
}

/// On the engine's thread: the rows' vectors as stored. Rows that a reload has taken away are zero.
Matrix SearchService::fetch(const CollectionInfo& collection, const std::vector<GlobalId>& ids) {
  const auto row_bytes = static_cast<std::int64_t>(size_bytes(collection.dtype)) * collection.dim;
  if (std::ssize(ids) > batcher_.config().queue_bytes / row_bytes)
    refuse(Code::memory_limit, "the vectors of " + std::to_string(ids.size()) +
                                   " rows are more than the server may hold; ask for fewer rows at once");
  Matrix vectors(collection.dtype, std::ssize(ids), collection.dim);
  const std::int64_t step = std::max<std::int64_t>(1, kFetchedAtOnceBytes / row_bytes);
  for (std::int64_t begin = 0; begin < std::ssize(ids); begin += step) {
    const std::int64_t end = std::min(std::ssize(ids), begin + step);
    const FetchedRows rows = cluster_.fetch(collection.slot, {ids.begin() + begin, ids.begin() + end});
    if (rows.vectors.cols() != collection.dim || rows.vectors.dtype() != collection.dtype)
      refuse(Code::not_ready, "the collection was reloaded with another shape meanwhile; try again");
    std::memcpy(vectors.data() + begin * row_bytes, rows.vectors.data(), rows.vectors.bytes());
  }
  return vectors;
}

void SearchService::query_rows(RowQuery query, std::function<void(RowResult)> done) {
  auto result = std::make_shared<RowResult>();
  auto shared = std::make_shared<RowQuery>(std::move(query));
  try {
    if (draining_) refuse(Code::not_ready, "the server is shutting down");
    result->collection = describe(shared->database, shared->collection);
    check_partitions(shared->partitions);
    check_loaded(*result->collection);
    const bool counts = std::ranges::find(shared->output_fields, kCount) != shared->output_fields.end();
    if (counts && shared->output_fields.size() > 1)
      refuse(Code::invalid_parameter, "count entities with other output fields is not supported");
    if (counts && shared->limit)
      refuse(Code::invalid_parameter, "count entities with pagination is not allowed");
    if (counts)
      result->count = 0;
    else
      result->output_fields = with_id(resolve_fields(shared->output_fields));
    if (shared->offset < 0 || (shared->limit && *shared->limit < 1))
      refuse(Code::invalid_parameter, "invalid limit or offset: limit should be 1 or more, offset 0 or more");
    if (!counts && !shared->limit && shared->filter.empty() && shared->ids.empty())
      refuse(Code::invalid_parameter, "empty expression should be used with limit");
    IdSet set = parse_expression(shared->filter, kIdField, shared->templates);
    if (!shared->ids.empty()) {
      const IdSet listed = IdSet::of(shared->ids);
      set = shared->filter.empty() ? listed : united(set, listed);
    }
    const Status posted = batcher_.post([this, shared, set = std::move(set), result, done] {
      try {
        *result = rows_of(*shared, set, std::move(*result));
      } catch (...) {
        result->status = status_of_current_exception();
      }
      executor_.run([result, done] { done(std::move(*result)); });
    });
    if (!posted.is_ok()) throw RequestError(posted.code, posted.reason);
  } catch (...) {
    result->status = status_of_current_exception();
    done(std::move(*result));
  }
}

/// On the engine's thread.
RowResult SearchService::rows_of(const RowQuery& query, const IdSet& set, RowResult result) {
  if (query.context->is_cancelled) refuse(Code::cancelled, "the client has cancelled the request");
  if (query.context->is_expired()) refuse(Code::timeout, "the request's deadline has passed");
  const CollectionInfo& info = *result.collection;
  if (result.count) {
    result.count = cluster_.count(info.slot, set);
    return result;
  }
  const std::int64_t offset = std::min(query.offset, info.rows);
  const std::int64_t limit = std::min(query.limit.value_or(info.rows), info.rows);
  const std::int64_t matching = std::min(cluster_.count(info.slot, set), offset + limit);
  if (matching > batcher_.config().queue_bytes / static_cast<std::int64_t>(2 * sizeof(GlobalId)))
    refuse(Code::memory_limit,
           std::to_string(matching) + " rows are more than the server may hold; use a limit");
  result.ids = cluster_.select(info.slot, set, matching);
  result.ids.erase(result.ids.begin(), result.ids.begin() + std::min(offset, std::ssize(result.ids)));
  if (wants_vectors(result.output_fields)) result.vectors = fetch(info, result.ids);
  return result;
}

}  // namespace mpishards::serve
