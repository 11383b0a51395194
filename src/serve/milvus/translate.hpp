#pragma once

#include <google/protobuf/map.h>
#include <google/protobuf/repeated_field.h>

#include <cstdint>
#include <string>

#include "common.pb.h"
#include "milvus.pb.h"
#include "schema.pb.h"
#include "serve/collection.hpp"
#include "serve/milvus/search_params.hpp"
#include "serve/search_service.hpp"
#include "serve/status.hpp"

namespace mpishards::serve::milvus {

/// Generated classes: milvus::proto::common and its siblings.
namespace common = ::milvus::proto::common;
namespace schema = ::milvus::proto::schema;
namespace pb = ::milvus::proto::milvus;

/// Both error fields, and both texts: some clients read only one of them.
void fill(common::Status& wire, const Status& status);

/// Now, as the clients' timestamps count: milliseconds since 1970 shifted left by 18, and a counter.
std::uint64_t hybrid_timestamp();
std::uint64_t hybrid_timestamp(std::int64_t unix_milliseconds);

/// "L2", "IP", "COSINE"
std::string metric_type(Metric metric);

void fill(pb::DescribeCollectionResponse& wire, const CollectionInfo& info);

SearchQuery search_query(const pb::SearchRequest& request, const CollectionInfo& info);
RowQuery row_query(const pb::QueryRequest& request);

/// @param nq, limit  of the request
void fill(pb::SearchResults& wire, const SearchResult& result, std::int64_t nq, std::int64_t limit);
void fill(pb::QueryResults& wire, const RowResult& result);

Parameters parameters_of(const google::protobuf::RepeatedPtrField<common::KeyValuePair>& pairs);
void add_pair(google::protobuf::RepeatedPtrField<common::KeyValuePair>& pairs, const std::string& key,
              const std::string& value);

}  // namespace mpishards::serve::milvus
