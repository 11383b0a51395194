#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "serve/collection.hpp"
#include "serve/milvus/search_params.hpp"

namespace mpishards::serve::milvus {

/// What clients said about indexes. The server searches exactly whatever they say, so their words are hints:
/// checked, kept, and told again. Thread safe.
class IndexHints {
 public:
  /// Of the name and parameters of one hint: they stay in memory.
  static constexpr std::size_t kMostHintBytes = 64 << 10;

  struct Index {
    std::string name;
    std::string field;
    Parameters params;  // index_type, metric_type, ...
  };

  /// Keeps the hint. An empty name stands for the field's.
  /// @throws RequestError{field_not_found|invalid_parameter} for an unknown field or index type, another
  /// metric than the collection's, or more text than kMostHintBytes
  void create(const CollectionInfo& info, const std::string& field, const std::string& name,
              const Parameters& params);
  /// Forgets a hint; the vector field's index stays, as what the server really does.
  /// @throws RequestError{index_not_found}
  void drop(const CollectionInfo& info, const std::string& field, const std::string& name);
  /// The indexes with this name or, where it is empty, on this field or, where that is empty too, all.
  std::vector<Index> find(const CollectionInfo& info, std::string_view field, std::string_view name) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<int, std::string>, Index> hints_;  // by slot and field
};

}  // namespace mpishards::serve::milvus
