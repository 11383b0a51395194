#include "serve/rest_service.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/convert.hpp"
#include "serve/milvus/search_params.hpp"
#include "serve/milvus/translate.hpp"
#include "serve/status.hpp"

namespace mpishards::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kDefaultLimit = 100;
constexpr int kHttpOk = 200;
constexpr int kHttpBadRequest = 400;
constexpr int kHttpUnauthorized = 401;
constexpr int kHttpTooManyRequests = 429;
constexpr int kHttpUnavailable = 503;

/// A required key is not there.
class MissingParameter : public std::runtime_error {
 public:
  explicit MissingParameter(const std::string& key)
      : std::runtime_error("missing required parameter " + key) {}
};

std::string dumped(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

HttpAnswer success(const Json& data) {
  return {kHttpOk, dumped({{"code", 0}, {"data", data}})};
}

std::string required_text(const RestBody& body, std::string_view key) {
  std::string text = body.text(key);
  if (text.empty()) throw MissingParameter(std::string(key));
  return text;
}

/// Everything that one request needs on its way.
struct Exchange {
  const FrontContext& front;
  RestBody& body;
  const ContextPtr& context;
  const RestCaller& caller;
  RequestRecord& record;

  CollectionPtr collection() const {
    return front.service.describe(body.text("dbName"), required_text(body, "collectionName"));
  }
};

// Rows are written by hand: a document of a million hits would need a hundred bytes for each number.

void append(std::string& text, std::int64_t number) {
  text += std::to_string(number);
}

/// The shortest text that reads back as the same float32; JSON has no infinities.
void append(std::string& text, float number) {
  if (!std::isfinite(number)) {
    text += "null";
    return;
  }
  std::array<char, 32> digits{};
  char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  text.append(digits.data(), end);
}

class RowWriter {
 public:
  RowWriter(const std::vector<std::string>& fields, const std::optional<Matrix>& vectors, bool int64_as_text)
      : int64_as_text_(int64_as_text),
        has_vectors_(vectors && std::find(fields.begin(), fields.end(), kVectorField) != fields.end()) {
    if (!has_vectors_) return;
    dim_ = vectors->cols();
    values_.resize(static_cast<std::size_t>(vectors->rows() * dim_));
    if (!values_.empty()) to_float32(vectors->dtype(), vectors->data(), std::ssize(values_), values_.data());
  }

  void append_id(std::string& text, GlobalId id) const {
    text += "\"id\":";
    if (int64_as_text_) text += '"';
    append(text, id);
    if (int64_as_text_) text += '"';
  }

  void append_vector(std::string& text, std::size_t row) const {
    if (!has_vectors_) return;
    text += ",\"vector\":[";
    const float* values = values_.data() + row * static_cast<std::size_t>(dim_);
    for (std::int64_t i = 0; i < dim_; ++i) {
      if (i > 0) text += ',';
      append(text, values[i]);
    }
    text += ']';
  }

 private:
  bool int64_as_text_;
  bool has_vectors_;
  std::int64_t dim_ = 0;
  std::vector<float> values_;
};

HttpAnswer search_answer(const SearchResult& result, bool int64_as_text) {
  const RowWriter writer(result.output_fields, result.vectors, int64_as_text);
  std::string text = R"({"code":0,"data":[)";
  for (std::size_t i = 0; i < result.ids.size(); ++i) {
    text += i == 0 ? "{" : ",{";
    writer.append_id(text, result.ids[i]);
    text += ",\"distance\":";
    append(text, result.distances[i]);
    writer.append_vector(text, i);
    text += '}';
  }
  text += R"(],"topks":[)";
  for (std::size_t q = 0; q < result.counts.size(); ++q) {
    if (q > 0) text += ',';
    append(text, result.counts[q]);
  }
  text += "]}";
  return {kHttpOk, std::move(text)};
}

HttpAnswer rows_answer(const RowResult& result, bool int64_as_text) {
  if (result.count) return success(Json::array({{{"count(*)", *result.count}}}));
  const RowWriter writer(result.output_fields, result.vectors, int64_as_text);
  std::string text = R"({"code":0,"data":[)";
  for (std::size_t i = 0; i < result.ids.size(); ++i) {
    text += i == 0 ? "{" : ",{";
    writer.append_id(text, result.ids[i]);
    writer.append_vector(text, i);
    text += '}';
  }
  text += "]}";
  return {kHttpOk, std::move(text)};
}

TemplateValue template_value(const std::string& name, const nlohmann::json& value) {
  if (value.is_number_integer()) return value.get<std::int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  const bool is_list = value.is_array() && std::all_of(value.begin(), value.end(), [](const auto& each) {
                         return each.is_number_integer();
                       });
  if (is_list) return value.get<std::vector<std::int64_t>>();
  throw RequestError(Code::invalid_parameter, "exprParams." + name + " is of a type that no id can have");
}

TemplateValues templates_of(const RestBody& body) {
  TemplateValues values;
  if (!body.has("exprParams")) return values;
  const auto& given = body.keys["exprParams"];
  if (!given.is_object()) throw RequestError(Code::invalid_parameter, "exprParams has to be an object");
  for (const auto& [name, value] : given.items()) values[name] = template_value(name, value);
  return values;
}

std::optional<std::int64_t> whole_number(const RestBody& body, std::string_view key) {
  if (!body.has(key)) return std::nullopt;
  const auto& value = *body.keys.find(key);
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
    throw RequestError(Code::invalid_parameter, std::string(key) + " has to be a whole number");
  }
  return value.get<std::int64_t>();
}

/// Names of this API to those of the other wire.
milvus::Parameters search_parameters(const RestBody& body) {
  milvus::Parameters parameters;
  const auto take = [&](const std::string& key, const std::string& name) {
    if (!body.has(key)) return;
    const auto& value = body.keys[key];
    parameters[name] = value.is_string() ? value.get<std::string>() : value.dump();
  };
  take("annsField", "anns_field");
  take("groupingField", "group_by_field");
  if (body.has("searchParams")) {
    const auto& given = body.keys["searchParams"];
    if (!given.is_object()) throw RequestError(Code::invalid_parameter, "searchParams has to be an object");
    for (const auto& [key, value] : given.items()) {
      const std::string name = key == "metricType" ? "metric_type" : key;
      parameters[name] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }
  parameters["topk"] = std::to_string(whole_number(body, "limit").value_or(kDefaultLimit));
  parameters["offset"] = std::to_string(whole_number(body, "offset").value_or(0));
  return parameters;
}

/// The answer, once it is there. A client that goes away meanwhile cancels its request.
template <class Result>
Result answer_of(std::future<Result> pending, const Exchange& exchange) {
  constexpr std::chrono::milliseconds kLook{100};
  while (pending.wait_for(kLook) != std::future_status::ready)
    if (!exchange.caller.is_there()) exchange.context->is_cancelled = true;
  return pending.get();
}

HttpAnswer search(const Exchange& exchange) {
  RestBody& body = exchange.body;
  SearchQuery query;
  query.collection = required_text(body, "collectionName");
  if (!body.has("data")) throw MissingParameter("data");
  if (!body.has_vectors) {
    throw RequestError(Code::invalid_parameter,
                       "data has to be a list of vectors, which are lists of numbers");
  }
  query.database = body.text("dbName");
  query.partitions = body.texts("partitionNames");
  query.filter = body.text("filter");
  query.templates = templates_of(body);
  query.output_fields = body.texts("outputFields");
  milvus::apply_search_params(search_parameters(body), query);
  query.queries = std::move(body.vectors);
  query.context = exchange.context;
  exchange.record.queries = query.queries.rows();

  const auto pending = std::make_shared<std::promise<SearchResult>>();
  exchange.front.service.search(std::move(query),
                                [pending](SearchResult result) { pending->set_value(std::move(result)); });
  const SearchResult result = answer_of(pending->get_future(), exchange);
  exchange.record.k = result.k;
  exchange.record.queue_seconds = result.queue_seconds;
  exchange.record.batches = result.batches;
  if (!result.status.is_ok()) throw RequestError(result.status.code, result.status.reason);
  return search_answer(result, exchange.caller.int64_as_text);
}

HttpAnswer rows(const Exchange& exchange, RowQuery query) {
  const RestBody& body = exchange.body;
  query.collection = required_text(body, "collectionName");
  query.database = body.text("dbName");
  query.partitions = body.texts("partitionNames");
  query.output_fields = body.texts("outputFields");
  if (query.output_fields.empty()) query.output_fields = {"*"};
  query.context = exchange.context;
  const auto pending = std::make_shared<std::promise<RowResult>>();
  exchange.front.service.query(std::move(query),
                               [pending](RowResult result) { pending->set_value(std::move(result)); });
  const RowResult result = answer_of(pending->get_future(), exchange);
  if (!result.status.is_ok()) throw RequestError(result.status.code, result.status.reason);
  return rows_answer(result, exchange.caller.int64_as_text);
}

HttpAnswer query(const Exchange& exchange) {
  RowQuery query;
  query.filter = exchange.body.text("filter");
  query.templates = templates_of(exchange.body);
  const std::vector<std::string> fields = exchange.body.texts("outputFields");
  const bool counts = fields.size() == 1 && fields[0] == "count(*)";
  query.limit = whole_number(exchange.body, "limit");
  if (!query.limit && !counts) query.limit = kDefaultLimit;
  query.offset = whole_number(exchange.body, "offset").value_or(0);
  return rows(exchange, std::move(query));
}

GlobalId id_of(const nlohmann::json& value) {
  if (value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
    return value.get<GlobalId>();
  }
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    GlobalId id = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error == std::errc() && stop == text.data() + text.size()) return id;
  }
  throw RequestError(Code::invalid_parameter, "id has to be a whole number or a list of them");
}

HttpAnswer get(const Exchange& exchange) {
  if (!exchange.body.has("id")) throw MissingParameter("id");
  const auto& given = exchange.body.keys["id"];
  RowQuery query;
  if (given.is_array()) {
    for (const auto& each : given) query.ids.push_back(id_of(each));
  } else {
    query.ids.push_back(id_of(given));
  }
  if (query.ids.empty()) throw MissingParameter("id");
  return rows(exchange, std::move(query));
}

HttpAnswer list(const Exchange& exchange) {
  Json names = Json::array();
  for (const auto& info : exchange.front.service.list(exchange.body.text("dbName")))
    names.push_back(info->name);
  return success(names);
}

HttpAnswer has(const Exchange& exchange) {
  SearchService::check_database(exchange.body.text("dbName"));
  const std::string name = required_text(exchange.body, "collectionName");
  return success({{"has", exchange.front.catalogue.find(name) != nullptr}});
}

std::string_view load_state(const CollectionInfo& info) {
  switch (info.state) {
    case LoadState::loaded:
      return "LoadStateLoaded";
    case LoadState::loading:
      return "LoadStateLoading";
    case LoadState::released:
      break;
  }
  return "LoadStateNotLoad";
}

/// The fields as the other wire describes them, in this one's words.
Json fields_of(const milvus::schema::CollectionSchema& schema) {
  Json fields = Json::array();
  for (const auto& field : schema.fields()) {
    Json json = {{"name", field.name()},
                 {"id", field.fieldid()},
                 {"type", milvus::schema::DataType_Name(field.data_type())},
                 {"primaryKey", field.is_primary_key()},
                 {"partitionKey", false},
                 {"autoId", false},
                 {"nullable", false},
                 {"description", ""}};
    for (const auto& pair : field.type_params()) {
      json["params"].push_back({{"key", pair.key()}, {"value", pair.value()}});
    }
    fields.push_back(std::move(json));
  }
  return fields;
}

HttpAnswer describe(const Exchange& exchange) {
  const CollectionPtr info = exchange.collection();
  milvus::pb::DescribeCollectionResponse described;
  milvus::fill(described, *info);
  return success({
      {"collectionName", info->name},
      {"collectionID", exchange.caller.int64_as_text ? Json(std::to_string(info->id)) : Json(info->id)},
      {"description", ""},
      {"autoId", false},
      {"enableDynamicField", false},
      {"fields", fields_of(described.schema())},
      {"indexes",
       {{{"fieldName", kVectorField},
         {"indexName", kVectorField},
         {"metricType", milvus::metric_type(info->metric)}}}},
      {"load", load_state(*info)},
      {"shardsNum", described.shards_num()},
      {"partitionsNum", described.num_partitions()},
      {"consistencyLevel", milvus::common::ConsistencyLevel_Name(described.consistency_level())},
      {"aliases", Json::array()},
      {"properties", Json::array()},
  });
}

HttpAnswer get_stats(const Exchange& exchange) {
  return success({{"rowCount", exchange.collection()->rows}});
}

HttpAnswer get_load_state(const Exchange& exchange) {
  const CollectionPtr info = exchange.collection();
  return success(
      {{"loadState", load_state(*info)}, {"loadProgress", info->state == LoadState::loaded ? 100 : 0}});
}

HttpAnswer refuse_write(const Exchange& /*exchange*/) {
  throw RequestError(Code::read_only,
                     "collections served from files are read-only; change the files and reload");
}

struct Route {
  const char* method;  // its name for metrics and the access log: that of the RPC which does the same
  HttpAnswer (*answer)(const Exchange&);
};

/// By path below /v2/vectordb/.
const std::map<std::string, Route>& table() {
  static const std::map<std::string, Route> kRoutes = {
      {"collections/list", {"ShowCollections", list}},
      {"collections/has", {"HasCollection", has}},
      {"collections/describe", {"DescribeCollection", describe}},
      {"collections/get_stats", {"GetCollectionStatistics", get_stats}},
      {"collections/get_load_state", {"GetLoadState", get_load_state}},
      {"entities/search", {"Search", search}},
      {"entities/query", {"Query", query}},
      {"entities/get", {"Query", get}},
      {"collections/create", {"CreateCollection", refuse_write}},
      {"collections/drop", {"DropCollection", refuse_write}},
      {"collections/rename", {"RenameCollection", refuse_write}},
      {"entities/insert", {"Insert", refuse_write}},
      {"entities/upsert", {"Upsert", refuse_write}},
      {"entities/delete", {"Delete", refuse_write}},
      {"indexes/create", {"CreateIndex", refuse_write}},
      {"indexes/drop", {"DropIndex", refuse_write}},
      {"partitions/create", {"CreatePartition", refuse_write}},
      {"partitions/drop", {"DropPartition", refuse_write}},
  };
  return kRoutes;
}

HttpAnswer answer_or_refuse(const Route& route, const Exchange& exchange) {
  try {
    return route.answer(exchange);
  } catch (const MissingParameter& missing) {
    exchange.record.status = {Code::invalid_parameter, missing.what()};
    return refusal(kHttpOk, RestCode::missing_parameter, missing.what());
  } catch (...) {
    exchange.record.status = status_of_current_exception();
    return refusal(exchange.record.status);
  }
}

HttpAnswer parse_and_answer(const Route& route, const FrontContext& front, std::string_view text,
                            const ContextPtr& context, const RestCaller& caller, RequestRecord& record) {
  RestBody body;
  try {
    body = parse_rest_body(text);
    record.collection = body.text("collectionName");
  } catch (const RestSyntaxError& error) {
    record.status = {Code::invalid_parameter, error.what()};
    return refusal(kHttpBadRequest, RestCode::malformed_json, error.what());
  } catch (...) {
    record.status = status_of_current_exception();
    return refusal(record.status);
  }
  return answer_or_refuse(route, {front, body, context, caller, record});
}

}  // namespace

HttpAnswer refusal(int http_status, RestCode code, const std::string& reason) {
  return {http_status, dumped({{"code", static_cast<std::int32_t>(code)}, {"message", reason}})};
}

HttpAnswer refusal(const Status& status) {
  switch (status.code) {
    case Code::overloaded:
      return refusal(kHttpTooManyRequests, RestCode::rate_limit, status.reason);
    case Code::unauthenticated:
      return refusal(kHttpUnauthorized, RestCode::needs_authentication, status.reason);
    default:
      break;
  }
  const int http_status = status.code == Code::not_ready ? kHttpUnavailable : kHttpOk;
  return {http_status,
          dumped({{"code", static_cast<std::int32_t>(status.code)}, {"message", status.reason}})};
}

const std::vector<std::string>& RestService::routes() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names;
    for (const auto& [name, route] : table()) names.push_back(name);
    return names;
  }();
  return kNames;
}

std::string RestService::method_of(const std::string& route) {
  return table().at(route).method;
}

HttpAnswer RestService::answer(const std::string& route, std::string_view body, const ContextPtr& context,
                               const RestCaller& caller) const {
  RequestRecord record;
  record.context = context;
  front_.observer.request_begun(*context);
  HttpAnswer answer = parse_and_answer(table().at(route), front_, body, context, caller, record);
  record.answer_bytes = std::ssize(answer.body);
  record.total_seconds = std::chrono::duration<double>(RequestContext::Clock::now() - context->begin).count();
  front_.observer.request_finished(record);
  return answer;
}

}  // namespace mpishards::serve
