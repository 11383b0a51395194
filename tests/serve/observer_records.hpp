#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/observer.hpp"

namespace mpishards::serve {

// Records as fronts and engine make them, for the tests of those who watch.

inline ContextPtr make_context(const std::string& method = "Search", const std::string& traceparent = "") {
  auto context = std::make_shared<RequestContext>();
  context->front = "grpc";
  context->method = method;
  context->peer = "127.0.0.1:40000";
  context->traceparent = traceparent;
  context->request_bytes = 3200;
  return context;
}

/// A batch of two ranks: 2 ms scatter, 30 and 50 ms of search, 60 ms in all.
inline std::shared_ptr<BatchRecord> make_batch(const std::string& collection = "docs") {
  auto batch = std::make_shared<BatchRecord>();
  batch->collection = collection;
  batch->requests = 3;
  batch->queries = 100;
  batch->k = 10;
  batch->begin = std::chrono::system_clock::now() - std::chrono::milliseconds(65);
  batch->scatter_seconds = 0.002;
  batch->search_seconds = {0.030, 0.050};
  batch->search_hosts = {"node1", "node2"};
  batch->merge_seconds = 0.025;
  batch->total_seconds = 0.060;
  return batch;
}

inline RequestRecord make_record(ContextPtr context, const std::string& collection = "docs",
                                 Code code = Code::ok) {
  RequestRecord record;
  record.context = std::move(context);
  record.collection = collection;
  record.status = {code, code == Code::ok ? "" : "owner == secret_of_the_client"};
  record.queries = 8;
  record.k = 10;
  record.answer_bytes = 960;
  record.queue_seconds = 0.003;
  record.total_seconds = 0.070;
  if (code == Code::ok) record.batches = {make_batch(collection)};
  return record;
}

inline CollectionInfo make_info(const std::string& name = "docs", LoadState state = LoadState::loaded) {
  CollectionInfo info;
  info.name = name;
  info.dim = 16;
  info.rows = 1000;
  info.state = state;
  info.generation = 1;
  if (state == LoadState::loaded)
    info.shards = {{0, "node1", 600, 38400, 0.5}, {1, "node2", 400, 25600, 0.25}};
  return info;
}

}  // namespace mpishards::serve
