#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/matrix_view.hpp"
#include "serve/batcher.hpp"
#include "serve/catalogue.hpp"
#include "serve/cluster.hpp"
#include "serve/executor.hpp"
#include "serve/expression.hpp"
#include "serve/loader.hpp"
#include "serve/request_context.hpp"
#include "serve/status.hpp"

namespace mpishards::serve {

/// The two fields of a collection that is served from files.
inline constexpr std::string_view kIdField = "id";
inline constexpr std::string_view kVectorField = "vector";
inline constexpr std::string_view kDefaultDatabase = "default";
inline constexpr std::string_view kDefaultPartition = "_default";

/// A search as any wire brings it.
struct SearchQuery {
  std::string database;  // empty: default
  std::string collection;
  std::vector<std::string> partitions;
  Matrix queries;          // nq x dim float32
  std::int64_t limit = 0;  // >= 1
  std::int64_t offset = 0;
  std::optional<double> radius;        // exclusive bound on the far side
  std::optional<double> range_filter;  // inclusive bound on the near side
  int round_decimal = -1;              // digits that distances are rounded to; -1: not
  std::string metric;                  // as the client names it; empty: the collection's
  std::string vector_field;            // empty: the only one
  std::string filter;                  // expression over the primary key; empty: all
  TemplateValues templates;
  std::vector<std::string> output_fields;
  ContextPtr context;
};

/// Hits of all queries, one after the other, best first.
struct SearchResult {
  Status status;
  CollectionPtr collection;
  std::vector<std::int64_t> counts;  // hits of each query
  std::vector<GlobalId> ids;
  std::vector<float> distances;
  std::vector<std::string> output_fields;  // "*" resolved, each once
  std::optional<Matrix> vectors;           // rows of the hits, where asked for
  std::int64_t k = 0;                      // of the longest answer that the engine was asked for
  double queue_seconds = 0;
  std::vector<std::shared_ptr<const BatchRecord>> batches;
};

/// Rows by an expression over the primary key, as any wire brings it.
struct RowQuery {
  std::string database;
  std::string collection;
  std::vector<std::string> partitions;
  std::string filter;
  TemplateValues templates;
  std::vector<GlobalId> ids;  // selects these as well, where not empty
  std::optional<std::int64_t> limit;
  std::int64_t offset = 0;
  std::vector<std::string> output_fields;  // "count(*)" alone counts
  ContextPtr context;
};

struct RowResult {
  Status status;
  CollectionPtr collection;
  std::optional<std::int64_t> count;  // where count(*) was asked for; then nothing below
  std::vector<GlobalId> ids;          // ascending, each once
  std::vector<std::string> output_fields;
  std::optional<Matrix> vectors;
};

/// What every wire's requests are translated to. Thread safe. Answers come through callbacks, once each, on a
/// thread of the service; callbacks must be quick and not throw. Refusals come the same way, at once.
class SearchService {
 public:
  SearchService(Batcher& batcher, Cluster& cluster, Loader& loader, Executor& executor)
      : batcher_(batcher), cluster_(cluster), loader_(loader), executor_(executor) {}

  void search(SearchQuery query, std::function<void(SearchResult)> done);
  void query(RowQuery query, std::function<void(RowResult)> done);

  /// @throws RequestError{database_not_found|collection_not_found}
  CollectionPtr describe(std::string_view database, std::string_view collection) const;
  /// @throws RequestError{database_not_found}
  std::vector<CollectionPtr> list(std::string_view database) const;
  /// @throws RequestError{database_not_found}
  static void check_database(std::string_view database);
  /// @throws RequestError{partition_not_found}
  static void check_partitions(const std::vector<std::string>& partitions);

  /// Refuses new searches and queries from now on.
  void begin_drain() { draining_ = true; }
  /// Accepted searches and queries that have no answer yet.
  std::int64_t active_requests() const { return active_; }

  /// Begins to load a released collection again; one that is loaded stays as it is.
  Status load(const CollectionPtr& collection);
  /// Frees a collection's memory; `done` is called when that has happened.
  void release(const CollectionPtr& collection, std::function<void(Status)> done);

 private:
  class FilteredSearch;

  void search_all(SearchQuery query, SearchResult result, std::int64_t k,
                  std::function<void(SearchResult)> done);
  void add_vectors(SearchResult result, std::function<void(SearchResult)> done);
  void query_rows(RowQuery query, std::function<void(RowResult)> done);
  void search_rows(SearchQuery query, std::function<void(SearchResult)> done);
  RowResult rows_of(const RowQuery& query, const IdSet& set, RowResult result);
  Matrix fetch(const CollectionInfo& collection, const std::vector<GlobalId>& ids);

  Batcher& batcher_;
  Cluster& cluster_;
  Loader& loader_;
  Executor& executor_;
  std::atomic<bool> draining_{false};
  std::atomic<std::int64_t> active_{0};
};

}  // namespace mpishards::serve
