#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "serve/id_set.hpp"

namespace mpishards::serve {

/// What a placeholder {name} of an expression stands for.
using TemplateValue = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>>;
using TemplateValues = std::map<std::string, TemplateValue, std::less<>>;

/// The ids that a boolean expression over the primary key selects.
///
/// Grammar: comparisons (== != < <= > >=, also chained: 10 <= id < 20), `id in [1, 2]`, `id not in [...]`,
/// `and or not` and `&& || !`, parentheses, true, false, {placeholders}; keywords in either case. An empty
/// expression selects all. Numbers may have a fraction in comparisons; ids have none.
/// @param field  name of the primary key
/// @throws RequestError{invalid_parameter} saying what stands where; RequestError{field_not_found} for
/// another field's name
/// @par Cost  n log n in the text, per level of parentheses; nesting is limited, so that no text exhausts the
/// stack
IdSet parse_expression(std::string_view text, std::string_view field, const TemplateValues& templates = {});

/// Parentheses and nots within each other.
inline constexpr int kMostExpressionDepth = 200;

}  // namespace mpishards::serve
