// Answers about indexes: there is one exact search behind whatever clients call it.
#include "serve/milvus/answers.hpp"

namespace mpishards::serve::milvus {

namespace {

std::vector<IndexHints::Index> find(const Asked& asked, const CollectionInfo& info, const std::string& field,
                                    const std::string& name) {
  std::vector<IndexHints::Index> found = asked.hints.find(info, field, name);
  if (found.empty())
    throw RequestError(Code::index_not_found, "index not found[collection=" + info.name +
                                                  "][index=" + (name.empty() ? field : name) + "]");
  return found;
}

void fill(pb::IndexDescription& wire, const IndexHints::Index& index, const CollectionInfo& info,
          std::int64_t id) {
  wire.set_index_name(index.name);
  wire.set_indexid(id);
  wire.set_field_name(index.field);
  wire.set_state(common::Finished);
  wire.set_total_rows(info.rows);
  wire.set_indexed_rows(info.rows);
  wire.set_pending_index_rows(0);
  for (const auto& [key, value] : index.params) add_pair(*wire.mutable_params(), key, value);
}

template <class Response>
void describe(const Asked& asked, const std::string& collection, const std::string& field,
              const std::string& name, Response& response) {
  const CollectionPtr info = asked.collection(collection);
  for (const IndexHints::Index& index : find(asked, *info, field, name))
    fill(*response.add_index_descriptions(), index, *info,
         info->id * 10 + (index.field == kVectorField ? 1 : 2));
}

}  // namespace

void answer(const Asked& asked, const pb::CreateIndexRequest& request, common::Status& /*response*/) {
  const CollectionPtr info = asked.collection(request.collection_name());
  asked.hints.create(*info, request.field_name(), request.index_name(),
                     parameters_of(request.extra_params()));
}

void answer(const Asked& asked, const pb::DropIndexRequest& request, common::Status& /*response*/) {
  asked.hints.drop(*asked.collection(request.collection_name()), request.field_name(), request.index_name());
}

void answer(const Asked& asked, const pb::DescribeIndexRequest& request,
            pb::DescribeIndexResponse& response) {
  describe(asked, request.collection_name(), request.field_name(), request.index_name(), response);
}

void answer(const Asked& asked, const pb::GetIndexStatisticsRequest& request,
            pb::GetIndexStatisticsResponse& response) {
  describe(asked, request.collection_name(), "", request.index_name(), response);
}

void answer(const Asked& asked, const pb::GetIndexStateRequest& request,
            pb::GetIndexStateResponse& response) {
  find(asked, *asked.collection(request.collection_name()), request.field_name(), request.index_name());
  response.set_state(common::Finished);
}

void answer(const Asked& asked, const pb::GetIndexBuildProgressRequest& request,
            pb::GetIndexBuildProgressResponse& response) {
  const CollectionPtr info = asked.collection(request.collection_name());
  find(asked, *info, request.field_name(), request.index_name());
  response.set_indexed_rows(info->rows);
  response.set_total_rows(info->rows);
}

}  // namespace mpishards::serve::milvus
