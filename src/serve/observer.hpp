#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "serve/collection.hpp"
#include "serve/engine.hpp"
#include "serve/request_context.hpp"
#include "serve/status.hpp"

namespace mpishards::serve {

/// One answered or refused request.
struct RequestRecord {
  ContextPtr context;
  std::string collection;
  Status status;
  std::int64_t queries = 0;  // of a search
  std::int64_t k = 0;
  std::int64_t answer_bytes = 0;
  double queue_seconds = 0;  // from arrival to the first batch that it took part in
  double total_seconds = 0;
  std::vector<std::shared_ptr<const BatchRecord>> batches;  // that answered it
};

/// Sees what the server does; metrics, spans and the access log implement it. Called from many threads; must
/// be quick and must not throw.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void request_begun(const RequestContext& /*context*/) {}
  virtual void request_finished(const RequestRecord& /*record*/) {}
  virtual void batch_finished(const BatchRecord& /*record*/) {}
  /// A collection was loaded, reloaded or released.
  virtual void collection_changed(const CollectionInfo& /*info*/) {}
};

/// Passes everything on to any number of observers. Complete before the server starts.
class Observers final : public Observer {
 public:
  void add(std::shared_ptr<Observer> observer) { observers_.push_back(std::move(observer)); }
  void request_begun(const RequestContext& context) override {
    for (const auto& observer : observers_) observer->request_begun(context);
  }
  void request_finished(const RequestRecord& record) override {
    for (const auto& observer : observers_) observer->request_finished(record);
  }
  void batch_finished(const BatchRecord& record) override {
    for (const auto& observer : observers_) observer->batch_finished(record);
  }
  void collection_changed(const CollectionInfo& info) override {
    for (const auto& observer : observers_) observer->collection_changed(info);
  }

 private:
  std::vector<std::shared_ptr<Observer>> observers_;
};

}  // namespace mpishards::serve
