#include "serve/milvus/search_params.hpp"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "serve/status.hpp"

namespace mpishards::serve::milvus {

namespace {

/// A client that names no limit gets what most of its kind default to.
constexpr std::int64_t kDefaultLimit = 10;
/// Of the JSON text of "params". Clients nest a level or two; writing a deep value down again needs a deep
/// stack.
constexpr int kMostParamsDepth = 32;
constexpr int kMostParamsValues = 10'000;

[[noreturn]] void refuse_value(std::string_view key, const std::string& text, const std::string& wanted) {
  throw RequestError(Code::invalid_parameter,
                     std::string(key) + " [" + text + "] is invalid: expected " + wanted);
}

/// @return discarded where the text is no JSON
nlohmann::json parse_params(const std::string& text) {
  int events = 0;
  const auto limit = [&](int depth, nlohmann::json::parse_event_t /*event*/,
                         const nlohmann::json& /*value*/) {
    if (depth > kMostParamsDepth || ++events > kMostParamsValues)
      throw RequestError(Code::invalid_parameter,
                         "params is invalid: the JSON is nested too deeply or holds too much");
    return true;
  };
  return nlohmann::json::parse(text, limit, false);
}

/// Flat values, and beneath them those of the JSON text under "params".
Parameters flattened(const Parameters& given) {
  Parameters all = given;
  const auto params = given.find("params");
  if (params == given.end() || params->second.empty()) return all;
  const nlohmann::json json = parse_params(params->second);
  if (json.is_null()) return all;
  if (!json.is_object()) refuse_value("params", params->second, "a JSON object");
  for (const auto& [key, value] : json.items())
    all.try_emplace(key, value.is_string() ? value.get<std::string>() : value.dump());
  return all;
}

template <class Number>
std::optional<Number> number_of(const Parameters& parameters, std::string_view key, const char* wanted) {
  const auto found = parameters.find(key);
  if (found == parameters.end() || found->second.empty() || found->second == "None") return std::nullopt;
  const std::string& text = found->second;
  Number value{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) refuse_value(key, text, wanted);
  if constexpr (std::is_floating_point_v<Number>)
    if (std::isnan(value)) refuse_value(key, text, wanted);
  return value;
}

std::string text_of(const Parameters& parameters, std::string_view key) {
  const auto found = parameters.find(key);
  return found == parameters.end() ? "" : found->second;
}

void refuse_unsupported(const Parameters& parameters) {
  for (const std::string_view key : {"group_by_field", "order_by_fields", "order_by"})
    if (const std::string value = text_of(parameters, key);
        !value.empty() && value != "null" && value != "None")
      throw RequestError(Code::invalid_parameter,
                         std::string(key) +
                             " is not supported by mpishards: collections served from files have "
                             "no field to group or order by");
}

std::optional<std::int64_t> limit_of(const Parameters& parameters) {
  for (const std::string_view key : {"topk", "limit"})
    if (const auto limit = number_of<std::int64_t>(parameters, key, "a whole number")) return limit;
  return std::nullopt;
}

}  // namespace

void apply_search_params(const Parameters& parameters, SearchQuery& query) {
  const Parameters all = flattened(parameters);
  refuse_unsupported(all);
  query.limit = limit_of(all).value_or(kDefaultLimit);
  query.offset = number_of<std::int64_t>(all, "offset", "a whole number").value_or(0);
  query.radius = number_of<double>(all, "radius", "a number");
  query.range_filter = number_of<double>(all, "range_filter", "a number");
  query.round_decimal = number_of<int>(all, "round_decimal", "-1, or 0 to 6").value_or(-1);
  query.metric = text_of(all, "metric_type");
  query.vector_field = text_of(all, "anns_field");
}

void apply_query_params(const Parameters& parameters, RowQuery& query) {
  const Parameters all = flattened(parameters);
  refuse_unsupported(all);
  query.limit = limit_of(all);
  if (query.limit == -1) query.limit.reset();
  query.offset = number_of<std::int64_t>(all, "offset", "a whole number").value_or(0);
}

}  // namespace mpishards::serve::milvus
