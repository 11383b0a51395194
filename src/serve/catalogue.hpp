#pragma once

#include <mutex>
#include <string_view>
#include <vector>

#include "serve/collection.hpp"

namespace mpishards::serve {

/// What is served, on rank 0. Thread safe: readers get values that never change.
class Catalogue {
 public:
  /// Null for an unknown name.
  CollectionPtr find(std::string_view name) const;
  CollectionPtr at(int slot) const;
  std::vector<CollectionPtr> all() const;
  /// True when every collection is loaded or was released by a client.
  bool is_complete() const;

  /// Replaces what was known of its slot, or adds a slot. @pre info.slot <= number of slots
  void set(CollectionInfo info);

 private:
  mutable std::mutex mutex_;
  std::vector<CollectionPtr> collections_;  // by slot
};

}  // namespace mpishards::serve
