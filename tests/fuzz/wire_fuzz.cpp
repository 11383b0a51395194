// libFuzzer: whatever a client of the Milvus protocol sends, the server refuses it with a reason or answers
// what a plain loop over the rows answers.
//
// An input is a Conversation (wire.proto). Everything behind the sockets is the server's own, but for the
// ranks: see stand_in_cluster.hpp.
#include <google/protobuf/stubs/logging.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "message_mutator.hpp"
#include "serve/milvus/answers.hpp"
#include "stand_in_cluster.hpp"
#include "wire.pb.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace mpishards::serve {
namespace {

namespace common = milvus::common;
namespace pb = milvus::pb;

constexpr std::int64_t kQueueBytes = 64 << 10;
/// A refusal repeats a request's texts a few times at most.
constexpr std::size_t kReasonBytes = 1000;
constexpr std::size_t kMostRepeated = 4;

void insist(bool holds) {
  if (!holds) std::abort();
}

/// Nothing that a client sends may be taken for a fault of the server.
void check_code(Code code) {
  insist(code != Code::unexpected && code != Code::overloaded && code != Code::cancelled &&
         code != Code::timeout);
}

/// The answer travels: its texts are UTF-8, and its status is one that a client can tell from success.
template <class Response>
void check_answer(const Response& response, const common::Status& wire, const Status& status,
                  std::size_t request_bytes) {
  check_code(status.code);
  insist((wire.code() == 0) == status.is_ok());
  insist((wire.error_code() == common::Success) == status.is_ok());
  insist(status.is_ok() == wire.reason().empty());
  insist(wire.reason().size() <= kReasonBytes + kMostRepeated * request_bytes);
  insist(Response().ParseFromString(response.SerializeAsString()));
}

class Server {
 public:
  /// Every call of the conversation, each after the last one's answer.
  void answer(const fuzz::Conversation& conversation) {
    int next = 0;
    const auto idle = [&] {
      loader_.tick();
      if (missing_ > 0 || loader_.is_busy()) return;
      insist(service_.active_requests() == 0 && batcher_.queued_bytes() == 0);
      if (next == conversation.calls_size()) return batcher_.drain();
      answer(conversation.calls(next++));
    };
    batcher_.run(cluster_, idle, std::chrono::milliseconds(0));
    insist(missing_ == 0);
  }

  /// Whether there is an answer to each call of the protocol.
  static bool is_complete() {
    const auto* calls = fuzz::Call::descriptor();
    const auto* service = pb::SearchRequest::descriptor()->file()->FindServiceByName("MilvusService");
    for (int i = 0; i < service->method_count(); ++i) {
      const auto* field = calls->FindFieldByName(service->method(i)->name());
      if (field == nullptr || field->message_type() != service->method(i)->input_type()) return false;
      if (!handlers().contains(field->name())) return false;
    }
    return calls->field_count() == service->method_count();
  }

 private:
  using Handler = void (*)(Server&, const google::protobuf::Message&);

  static const std::map<std::string, Handler>& handlers() {
    static const std::map<std::string, Handler> all = {
        {"Search",
         [](Server& server, const google::protobuf::Message& request) {
           server.search(static_cast<const pb::SearchRequest&>(request));
         }},
        {"Query",
         [](Server& server, const google::protobuf::Message& request) {
           server.query(static_cast<const pb::QueryRequest&>(request));
         }},
        {"ReleaseCollection",
         [](Server& server, const google::protobuf::Message& request) {
           server.release(static_cast<const pb::ReleaseCollectionRequest&>(request));
         }},
        {"ReleasePartitions",
         [](Server& server, const google::protobuf::Message& request) {
           server.release(static_cast<const pb::ReleasePartitionsRequest&>(request));
         }},
#define MPISHARDS_ANSWERED_AT_ONCE(Method, Request, Response)               \
  {#Method, [](Server& server, const google::protobuf::Message& request) {  \
     server.answer_at_once<Response>(static_cast<const Request&>(request)); \
   }},
#include "serve/milvus/rpcs.inc"
#undef MPISHARDS_ANSWERED_AT_ONCE
    };
    return all;
  }

  void answer(const fuzz::Call& call) {
    const auto* field =
        call.GetReflection()->GetOneofFieldDescriptor(call, fuzz::Call::descriptor()->oneof_decl(0));
    if (field != nullptr) handlers().at(field->name())(*this, call.GetReflection()->GetMessage(call, field));
  }

  template <class Response, class Request>
  void answer_at_once(const Request& request) {
    Response response;
    Status status;
    std::string database;
    if constexpr (requires { request.db_name(); }) database = request.db_name();
    try {
      milvus::answer(milvus::Asked{front_, hints_, database}, request, response);
    } catch (...) {
      status = status_of_current_exception();
    }
    common::Status* wire = nullptr;
    if constexpr (std::is_same_v<Response, common::Status>)
      wire = &response;
    else
      wire = response.mutable_status();
    milvus::fill(*wire, status);
    check_answer(response, *wire, status, request.ByteSizeLong());
  }

  template <class Request>
  void release(const Request& request) {
    Status refused;
    try {
      ++missing_;
      return service_.release(service_.describe(request.db_name(), request.collection_name()),
                              [this](const Status& status) {
                                check_code(status.code);
                                --missing_;
                              });
    } catch (...) {
      refused = status_of_current_exception();
    }
    check_code(refused.code);
    --missing_;
  }

  void search(const pb::SearchRequest& request) {
    const std::size_t bytes = request.ByteSizeLong();
    ++missing_;
    std::optional<SearchQuery> asked;
    SearchResult refused;
    try {
      const CollectionPtr info = service_.describe(request.db_name(), request.collection_name());
      SearchQuery query = milvus::search_query(request, *info);
      insist(query.queries.rows() >= 1 && query.queries.cols() == info->dim);
      insist(request.nq() == 0 || request.nq() == query.queries.rows());
      query.database = request.db_name();
      query.context = std::make_shared<RequestContext>();
      asked = copy(query);
      auto shared = std::make_shared<SearchQuery>(std::move(*asked));
      return service_.search(std::move(query), [this, shared, bytes](const SearchResult& result) {
        check_search(*shared, result, bytes);
      });
    } catch (...) {
      refused.status = status_of_current_exception();
    }
    check_search({}, refused, bytes);
  }

  static SearchQuery copy(SearchQuery& query) {
    Matrix queries = std::move(query.queries);
    SearchQuery copied;
    query.queries = Matrix();
    copied.collection = query.collection;
    copied.limit = query.limit;
    copied.offset = query.offset;
    copied.radius = query.radius;
    copied.range_filter = query.range_filter;
    copied.round_decimal = query.round_decimal;
    copied.filter = query.filter;
    copied.templates = query.templates;
    copied.queries = Matrix(DType::f32, queries.rows(), queries.cols());
    std::copy_n(queries.as<float>().data, queries.rows() * queries.cols(), copied.queries.as<float>().data);
    query.queries = std::move(queries);
    return copied;
  }

  void check_search(const SearchQuery& asked, const SearchResult& result, std::size_t request_bytes) {
    --missing_;
    pb::SearchResults response;
    milvus::fill(response, result, asked.queries.rows(), asked.limit);
    check_answer(response, response.status(), result.status, request_bytes);
    if (!result.status.is_ok()) return insist(!response.has_results());
    insist(asked.limit >= 1 && asked.offset >= 0 && asked.round_decimal >= -1 && asked.round_decimal <= 6);
    insist(!(asked.radius && std::isnan(*asked.radius)));
    insist(!(asked.range_filter && std::isnan(*asked.range_filter)));
    const milvus::schema::SearchResultData& data = response.results();
    insist(data.num_queries() == asked.queries.rows() && data.topks_size() == data.num_queries());
    insist(data.scores_size() == data.ids().int_id().data_size());
    check_hits(asked, *result.collection, data);
    for (const milvus::schema::FieldData& column : data.fields_data())
      check_column(column, *result.collection, data.ids().int_id().data_size());
  }

  static bool is_in_range(const SearchQuery& asked, Metric metric, float distance) {
    const double sign = smaller_is_better(metric) ? 1 : -1;
    const double d = sign * static_cast<double>(distance);
    return !(asked.radius && d >= sign * *asked.radius) &&
           !(asked.range_filter && d < sign * *asked.range_filter);
  }

  static void check_hits(const SearchQuery& asked, const CollectionInfo& info,
                         const milvus::schema::SearchResultData& data) {
    const IdSet allowed = parse_expression(asked.filter, kIdField, asked.templates);
    int at = 0;
    for (int q = 0; q < data.topks_size(); ++q) {
      std::int64_t passed = 0;
      std::int64_t taken = 0;
      const float* query = asked.queries.view().as<float>().row(q);
      for (const stand_in::Hit& hit : stand_in::ranked(info, query)) {
        if (!allowed.contains(hit.id) || !is_in_range(asked, info.metric, hit.distance)) continue;
        if (passed++ < asked.offset || taken == asked.limit) continue;
        ++taken;
        insist(at < data.scores_size() && data.ids().int_id().data(at) == hit.id);
        if (asked.round_decimal < 0) insist(data.scores(at) == hit.distance);
        ++at;
      }
      insist(data.topks(q) == taken);
    }
    insist(at == data.scores_size());
  }

  static void check_column(const milvus::schema::FieldData& column, const CollectionInfo& info, int rows) {
    if (column.field_name() == kIdField) return insist(column.scalars().long_data().data_size() == rows);
    insist(column.field_name() == kVectorField && column.vectors().dim() == info.dim);
    const std::size_t values = static_cast<std::size_t>(rows) * static_cast<std::size_t>(info.dim);
    if (info.dtype == DType::i8)
      insist(column.vectors().int8_vector().size() == values);
    else
      insist(static_cast<std::size_t>(column.vectors().float_vector().data_size()) == values);
  }

  void query(const pb::QueryRequest& request) {
    const std::size_t bytes = request.ByteSizeLong();
    ++missing_;
    RowResult refused;
    try {
      RowQuery query = milvus::row_query(request);
      query.database = request.db_name();
      query.context = std::make_shared<RequestContext>();
      return service_.query(
          query, [this, query, bytes](const RowResult& result) { check_query(query, result, bytes); });
    } catch (...) {
      refused.status = status_of_current_exception();
    }
    check_query({}, refused, bytes);
  }

  void check_query(const RowQuery& asked, const RowResult& result, std::size_t request_bytes) {
    --missing_;
    pb::QueryResults response;
    milvus::fill(response, result);
    check_answer(response, response.status(), result.status, request_bytes);
    if (!result.status.is_ok()) return insist(response.fields_data_size() == 0);
    const CollectionInfo& info = *result.collection;
    const IdSet set = parse_expression(asked.filter, kIdField, asked.templates);
    std::vector<GlobalId> wanted;
    for (const GlobalId id : stand_in::ids(info))
      if (set.contains(id)) wanted.push_back(id);
    if (result.count) return insist(*result.count == std::ssize(wanted));
    insist(asked.offset >= 0 && asked.limit.value_or(1) >= 1);
    wanted.erase(wanted.begin(), wanted.begin() + std::min(asked.offset, std::ssize(wanted)));
    if (asked.limit && *asked.limit < std::ssize(wanted))
      wanted.resize(static_cast<std::size_t>(*asked.limit));
    insist(result.ids == wanted);
    for (const milvus::schema::FieldData& column : response.fields_data())
      check_column(column, info, static_cast<int>(wanted.size()));
  }

  static BatcherConfig batcher_config() {
    BatcherConfig config;
    config.delay = std::chrono::microseconds(0);
    config.turn_queries = 2;
    config.queue_bytes = kQueueBytes;
    return config;
  }

  Observer observer_;
  comm::Communicator nobody_;
  rank::SearchEngineConfig engine_config_;
  Batcher batcher_{batcher_config(), observer_};
  Cluster cluster_{stand_in::specs(), engine_config_, nobody_};
  Loader loader_{cluster_, observer_, [](const std::string&) {}};
  Executor executor_{1};
  SearchService service_{batcher_, cluster_, loader_, executor_};
  ServerConfig config_;
  ServerState state_;
  TokenSet tokens_;
  FrontContext front_{config_, service_, cluster_.catalogue(), batcher_, observer_, tokens_, state_};
  milvus::IndexHints hints_;
  int missing_ = 0;  // answers
};

}  // namespace
}  // namespace mpishards::serve

using mpishards::fuzz::Conversation;

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  google::protobuf::SetLogHandler(nullptr);
  mpishards::serve::insist(mpishards::serve::Server::is_complete());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Conversation conversation;
  if (!conversation.ParseFromArray(data, static_cast<int>(size))) return -1;
  mpishards::serve::Server().answer(conversation);
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  constexpr unsigned kPlain = 16;  // one in so many turns bytes wherever they stand
  std::minstd_rand random(seed);
  Conversation conversation;
  if (random() % kPlain == 0 || !conversation.ParseFromArray(data, static_cast<int>(size)))
    return LLVMFuzzerMutate(data, size, max_size);
  mpishards::mutate(conversation, random);
  const std::string changed = conversation.SerializeAsString();
  if (changed.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::copy(changed.begin(), changed.end(), data);
  return changed.size();
}
