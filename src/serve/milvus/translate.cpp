#include "serve/milvus/translate.hpp"

#include <google/protobuf/unknown_field_set.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <optional>

#include "core/convert.hpp"
#include "core/narrow.hpp"
#include "serve/milvus/placeholder.hpp"

namespace mpishards::serve::milvus {

namespace {

constexpr std::int64_t kIdFieldNumber = 100;  // user fields begin here
constexpr std::int64_t kVectorFieldNumber = 101;
constexpr int kTimestampCounterBits = 18;

common::ErrorCode legacy_code(Code code) {
  switch (code) {
    case Code::ok:
      return common::Success;
    case Code::not_ready:
      return common::NotReadyServe;
    case Code::memory_limit:
      return common::InsufficientMemoryToLoad;
    case Code::collection_not_found:
      return common::CollectionNotExists;
    case Code::partition_not_found:
      return common::MetaFailed;
    case Code::index_not_found:
      return common::IndexNotExist;
    case Code::invalid_parameter:
      return common::IllegalArgument;
    default:
      return common::UnexpectedError;
  }
}

/// How vectors of a dtype travel. Types that the protocol lacks (uint8) become floats.
schema::DataType vector_type(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return schema::Float16Vector;
    case DType::bf16:
      return schema::BFloat16Vector;
    case DType::i8:
      return schema::Int8Vector;
    default:
      return schema::FloatVector;
  }
}

std::string bytes_of(const Matrix& vectors) {
  return {reinterpret_cast<const char*>(vectors.data()), vectors.bytes()};
}

/// Empty columns too have their oneof set and a dimension: clients rely on both.
void fill_vectors(schema::FieldData& column, const CollectionInfo& info, const Matrix& vectors) {
  column.set_type(vector_type(info.dtype));
  column.set_field_name(std::string(kVectorField));
  column.set_field_id(kVectorFieldNumber);
  schema::VectorField& field = *column.mutable_vectors();
  field.set_dim(info.dim);
  switch (vector_type(info.dtype)) {
    case schema::Float16Vector:
      field.set_float16_vector(bytes_of(vectors));
      return;
    case schema::BFloat16Vector:
      field.set_bfloat16_vector(bytes_of(vectors));
      return;
    case schema::Int8Vector:
      field.set_int8_vector(bytes_of(vectors));
      return;
    default:
      break;
  }
  const std::int64_t count = vectors.rows() * vectors.cols();
  auto& data = *field.mutable_float_vector()->mutable_data();
  data.Resize(narrow<int>(count), 0.0F);
  if (count > 0) to_float32(vectors.dtype(), vectors.data(), count, data.mutable_data());
}

void fill_ids(schema::FieldData& column, const std::vector<GlobalId>& ids) {
  column.set_type(schema::Int64);
  column.set_field_name(std::string(kIdField));
  column.set_field_id(kIdFieldNumber);
  column.mutable_scalars()->mutable_long_data()->mutable_data()->Assign(ids.begin(), ids.end());
}

void add_columns(google::protobuf::RepeatedPtrField<schema::FieldData>& columns, const CollectionInfo& info,
                 const std::vector<std::string>& fields, const std::vector<GlobalId>& ids,
                 const std::optional<Matrix>& vectors) {
  for (const std::string& field : fields) {
    if (field == kIdField)
      fill_ids(*columns.Add(), ids);
    else if (vectors)
      fill_vectors(*columns.Add(), info, *vectors);
  }
}

std::vector<std::string> strings_of(const google::protobuf::RepeatedPtrField<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

TemplateValues templates_of(const google::protobuf::Map<std::string, schema::TemplateValue>& wire) {
  TemplateValues values;
  for (const auto& [name, value] : wire) {
    switch (value.val_case()) {
      case schema::TemplateValue::kInt64Val:
        values[name] = value.int64_val();
        break;
      case schema::TemplateValue::kFloatVal:
        values[name] = value.float_val();
        break;
      case schema::TemplateValue::kStringVal:
        values[name] = value.string_val();
        break;
      case schema::TemplateValue::kArrayVal: {
        const schema::TemplateArrayValue& list = value.array_val();
        // Lists of other types are fields that this subset of the protocol lacks; an empty list may have
        // none.
        if (!list.has_long_data() && !list.GetReflection()->GetUnknownFields(list).empty())
          throw RequestError(Code::invalid_parameter,
                             "the expression's value " + name + " is a list of other than integers");
        values[name] =
            std::vector<std::int64_t>(list.long_data().data().begin(), list.long_data().data().end());
        break;
      }
      default:
        throw RequestError(Code::invalid_parameter,
                           "the expression's value " + name + " is of a type that no id can have");
    }
  }
  return values;
}

void refuse_what_would_change_the_result(const pb::SearchRequest& request) {
  const auto refuse = [](const std::string& what) {
    throw RequestError(Code::invalid_parameter, what + " is not supported by mpishards");
  };
  if (request.sub_reqs_size() > 0) refuse("a search of several vector fields");
  if (request.has_function_score()) refuse("function_score");
  if (!request.search_aggregation().empty()) refuse("search_aggregation");
  if (request.function_chains_size() > 0) refuse("a function chain");
  if (request.has_ids()) refuse("a search by primary keys instead of vectors");
}

}  // namespace

void fill(common::Status& wire, const Status& status) {
  wire.set_error_code(legacy_code(status.code));
  wire.set_code(static_cast<std::int32_t>(status.code));
  wire.set_reason(status.reason);
  wire.set_detail(status.reason);
  wire.set_retriable(status.code == Code::not_ready);
}

std::uint64_t hybrid_timestamp(std::int64_t unix_milliseconds) {
  return static_cast<std::uint64_t>(unix_milliseconds) << kTimestampCounterBits;
}

std::uint64_t hybrid_timestamp() {
  static std::atomic<std::uint64_t> last{0};
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  std::uint64_t previous = last.load();
  for (;;) {
    const std::uint64_t next = std::max(previous + 1, hybrid_timestamp(now));
    if (last.compare_exchange_weak(previous, next)) return next;
  }
}

std::string metric_type(Metric metric) {
  switch (metric) {
    case Metric::l2:
      return "L2";
    case Metric::ip:
      return "IP";
    case Metric::cosine:
      break;
  }
  return "COSINE";
}

Parameters parameters_of(const google::protobuf::RepeatedPtrField<common::KeyValuePair>& pairs) {
  Parameters parameters;
  for (const common::KeyValuePair& pair : pairs) parameters[pair.key()] = pair.value();
  return parameters;
}

void add_pair(google::protobuf::RepeatedPtrField<common::KeyValuePair>& pairs, const std::string& key,
              const std::string& value) {
  common::KeyValuePair& pair = *pairs.Add();
  pair.set_key(key);
  pair.set_value(value);
}

void fill(pb::DescribeCollectionResponse& wire, const CollectionInfo& info) {
  schema::CollectionSchema& schema = *wire.mutable_schema();
  schema.set_name(info.name);
  schema::FieldSchema& id = *schema.add_fields();
  id.set_fieldid(kIdFieldNumber);
  id.set_name(std::string(kIdField));
  id.set_is_primary_key(true);
  id.set_data_type(schema::Int64);
  schema::FieldSchema& vector = *schema.add_fields();
  vector.set_fieldid(kVectorFieldNumber);
  vector.set_name(std::string(kVectorField));
  vector.set_data_type(vector_type(info.dtype));
  add_pair(*vector.mutable_type_params(), "dim", std::to_string(info.dim));
  wire.set_collectionid(info.id);
  wire.set_collection_name(info.name);
  wire.set_db_name(std::string(kDefaultDatabase));
  wire.set_shards_num(static_cast<std::int32_t>(std::max<std::int64_t>(1, std::ssize(info.shards))));
  wire.set_num_partitions(1);
  wire.set_consistency_level(common::Bounded);
  wire.set_created_timestamp(hybrid_timestamp(info.created_ms));
  wire.set_created_utc_timestamp(static_cast<std::uint64_t>(info.created_ms));
  wire.set_update_timestamp(hybrid_timestamp(info.updated_ms));
  wire.set_update_timestamp_str(std::to_string(hybrid_timestamp(info.updated_ms)));
  wire.set_request_time(hybrid_timestamp());
}

SearchQuery search_query(const pb::SearchRequest& request, const CollectionInfo& info) {
  refuse_what_would_change_the_result(request);
  SearchQuery query;
  query.collection = request.collection_name();
  query.partitions = strings_of(request.partition_names());
  query.filter = request.dsl();
  query.templates = templates_of(request.expr_template_values());
  query.output_fields = strings_of(request.output_fields());
  apply_search_params(parameters_of(request.search_params()), query);
  query.queries = parse_placeholder_group(request.placeholder_group(), info.dim, request.nq());
  return query;
}

RowQuery row_query(const pb::QueryRequest& request) {
  RowQuery query;
  query.collection = request.collection_name();
  query.partitions = strings_of(request.partition_names());
  query.filter = request.expr();
  query.templates = templates_of(request.expr_template_values());
  query.output_fields = strings_of(request.output_fields());
  apply_query_params(parameters_of(request.query_params()), query);
  return query;
}

void fill(pb::SearchResults& wire, const SearchResult& result, std::int64_t nq, std::int64_t limit) {
  fill(*wire.mutable_status(), result.status);
  if (!result.status.is_ok()) return;
  wire.set_collection_name(result.collection->name);
  wire.set_session_ts(hybrid_timestamp());
  schema::SearchResultData& data = *wire.mutable_results();
  data.set_num_queries(nq);
  data.set_top_k(limit);
  data.mutable_topks()->Assign(result.counts.begin(), result.counts.end());
  data.mutable_ids()->mutable_int_id()->mutable_data()->Assign(result.ids.begin(), result.ids.end());
  data.mutable_scores()->Assign(result.distances.begin(), result.distances.end());
  data.set_primary_field_name(std::string(kIdField));
  for (const std::string& field : result.output_fields) data.add_output_fields(field);
  add_columns(*data.mutable_fields_data(), *result.collection, result.output_fields, result.ids,
              result.vectors);
}

void fill(pb::QueryResults& wire, const RowResult& result) {
  fill(*wire.mutable_status(), result.status);
  if (!result.status.is_ok()) return;
  wire.set_collection_name(result.collection->name);
  wire.set_session_ts(hybrid_timestamp());
  if (result.count) {
    schema::FieldData& column = *wire.add_fields_data();
    column.set_type(schema::Int64);
    column.set_field_name("count(*)");
    column.mutable_scalars()->mutable_long_data()->add_data(*result.count);
    wire.add_output_fields("count(*)");
    return;
  }
  wire.set_primary_field_name(std::string(kIdField));
  for (const std::string& field : result.output_fields) wire.add_output_fields(field);
  add_columns(*wire.mutable_fields_data(), *result.collection, result.output_fields, result.ids,
              result.vectors);
}

}  // namespace mpishards::serve::milvus
