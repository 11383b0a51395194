#pragma once

#include <cstdint>
#include <vector>

#include "serve/cluster.hpp"
#include "serve/search_service.hpp"

namespace mpishards::serve::stand_in {

/// Three small loaded collections of every metric, and one that is released.
const std::vector<CollectionSpec>& specs();

/// One row of a collection as it can be found.
struct Hit {
  GlobalId id = 0;
  float distance = 0;
};

/// All rows, best first. @param query  of the collection's dimension
std::vector<Hit> ranked(const CollectionInfo& info, const float* query);

/// Ids in ascending order.
const std::vector<GlobalId>& ids(const CollectionInfo& info);

}  // namespace mpishards::serve::stand_in
