#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/matrix_view.hpp"
#include "core/topk.hpp"
#include "serve/engine.hpp"
#include "serve/observer.hpp"
#include "serve/request_context.hpp"
#include "serve/status.hpp"

namespace mpishards::serve {

struct BatcherConfig {
  /// How long the engine waits for companions of a request, counted from the last that came; not at all where
  /// the batch before had one request only.
  std::chrono::microseconds delay{200};
  std::int64_t batch_queries = 4096;                   // most queries searched at once
  std::int64_t batch_bytes = std::int64_t{256} << 20;  // most bytes of queries and answers searched at once
  std::int64_t turn_queries = 256;                     // of one request, before the next one has its turn
  std::chrono::milliseconds batch_time{
      250};  // what a batch should take at most: how long small requests wait
  std::int64_t queue_bytes = std::int64_t{2} << 30;  // of all accepted requests, answers included
};

/// What the engine found for one request.
struct SearchAnswer {
  Status status;
  TopK top;  // nq x k of the request
  double queue_seconds = 0;
  std::vector<std::shared_ptr<const BatchRecord>> batches;
};

/// One request for the engine.
struct SearchRequest {
  int slot = 0;
  std::string collection;
  Metric metric = Metric::l2;
  Matrix queries;      // nq x d float32, finite; 1 <= nq
  std::int64_t k = 0;  // 1 <= k
  ContextPtr context;
  /// Called once: on the engine's thread, or inside submit where the request is refused. Must be quick and
  /// not throw.
  std::function<void(SearchAnswer)> done;
};

/// Bytes that a request holds until it is answered: queries and answer, as here and as on the wire.
std::int64_t planned_bytes(std::int64_t nq, std::int64_t d, std::int64_t k);

/// Concurrent requests, searched together and answered separately.
///
/// An answer never depends on what it was searched with: rows of a batch are independent, and the k best are
/// the first k of any longer answer. Requests take turns of turn_queries, so that a huge one is searched in
/// pieces between which small ones go first. submit() and the other calls are thread safe; run() is for one
/// thread, the engine's.
class Batcher {
 public:
  Batcher(const BatcherConfig& config, Observer& observer);
  ~Batcher();

  /// Queues a request, or refuses it through `done`: overloaded where the queue is full, memory_limit where
  /// it could never hold the request, not_ready after drain().
  void submit(SearchRequest request);

  /// Has the engine's thread do something between two batches, in order of posting.
  /// @return not ok, and nothing will be done, where too much waits already or after drain()
  Status post(std::function<void()> task);

  /// Refuses new requests from now on; run() returns when all accepted ones are answered.
  void drain();

  /// Searches until drained. @param idle  called about every `idle_interval` between batches
  void run(Engine& engine, const std::function<void()>& idle, std::chrono::milliseconds idle_interval);

  std::int64_t queued_bytes() const;
  std::int64_t queued_requests() const;
  bool is_draining() const;
  const BatcherConfig& config() const { return config_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Pending;
  struct Piece;
  struct Batch;
  using PendingPtr = std::shared_ptr<Pending>;
  using Lock = std::unique_lock<std::mutex>;

  void run_task(Lock& lock);
  void gather(Lock& lock);
  void drop_dead(Lock& lock);
  Batch next_batch();
  std::int64_t room_for(const Pending& first, std::int64_t k) const;
  void search(Engine& engine, Batch batch);
  void deliver(const Batch& batch, const TopK& top, const std::shared_ptr<const BatchRecord>& record);
  void fail(const Batch& batch, const Status& status);
  void finish(Pending& pending, Status status);
  void note_speed(const BatchRecord& record);

  const BatcherConfig config_;
  Observer& observer_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<PendingPtr> queue_;  // whose turn is next comes first
  std::deque<std::function<void()>> tasks_;
  std::int64_t queued_bytes_ = 0;
  bool draining_ = false;
  Clock::time_point last_arrival_;
  Clock::time_point last_batch_end_;
  std::int64_t last_batch_requests_ = 0;
  double last_batch_seconds_ = 0;
  double queries_per_second_ = 0;  // of the last batches; 0: not known yet
};

}  // namespace mpishards::serve
