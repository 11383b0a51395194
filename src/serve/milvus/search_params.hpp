#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "serve/search_service.hpp"

namespace mpishards::serve::milvus {

using Parameters = std::map<std::string, std::string, std::less<>>;

/// Reads topk or limit, offset, anns_field, metric_type, round_decimal, radius and range_filter into `query`:
/// flat, or inside the JSON text of `params`; what stands flat wins. Keys that don't change the result are
/// ignored.
/// @throws RequestError{invalid_parameter} for a bad value, a JSON text of absurd depth or length, and for
/// grouping and ordering, which would change the result
void apply_search_params(const Parameters& parameters, SearchQuery& query);

/// The same for limit and offset of a query for rows.
void apply_query_params(const Parameters& parameters, RowQuery& query);

}  // namespace mpishards::serve::milvus
