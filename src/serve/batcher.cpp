#include "serve/batcher.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <utility>

#include "core/timer.hpp"

namespace mpishards::serve {

namespace {

constexpr std::int64_t kAnswerEntryBytes = sizeof(GlobalId) + sizeof(float);
/// A request with a longer answer than this many times another's is searched apart from it: what it asks for
/// more would be searched for all.
constexpr std::int64_t kMostUnequalK = 4;
/// Answers up to this length are never searched apart.
constexpr std::int64_t kShortAnswer = 64;
/// Waiting for companions costs at most this share of the batch before.
constexpr double kGatherShare = 0.1;

constexpr std::size_t kMostTasks = 4096;

std::int64_t saturating_product(std::int64_t a, std::int64_t b) {
  std::int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<std::int64_t>::max() / 8 : product;
}

bool may_share_batch(std::int64_t k, std::int64_t other) {
  const auto [fewer, more] = std::minmax(k, other);
  return more <= kShortAnswer || more <= fewer * kMostUnequalK;
}

}  // namespace

std::int64_t planned_bytes(std::int64_t nq, std::int64_t d, std::int64_t k) {
  // The query row as it came and as it is searched; the answer in the ranks' merge, here and on the wire.
  const std::int64_t row =
      2 * d * static_cast<std::int64_t>(sizeof(float)) + saturating_product(3 * kAnswerEntryBytes, k);
  return saturating_product(nq, row);
}

struct Batcher::Pending {
  SearchRequest request;
  SearchAnswer answer;
  std::int64_t bytes = 0;
  std::int64_t next = 0;     // first query that is in no batch yet
  std::int64_t missing = 0;  // queries without an answer
  Clock::time_point arrived;
  bool finished = false;

  std::int64_t nq() const { return request.queries.rows(); }
};

/// Consecutive queries of one request within a batch.
struct Batcher::Piece {
  PendingPtr pending;
  std::int64_t begin = 0;  // in the request
  std::int64_t count = 0;
};

struct Batcher::Batch {
  std::vector<Piece> pieces;
  std::int64_t queries = 0;
  std::int64_t k = 0;

  /// Different ones: each may have several pieces.
  std::int64_t requests() const {
    std::set<const Pending*> found;
    for (const Piece& piece : pieces) found.insert(piece.pending.get());
    return std::ssize(found);
  }
};

Batcher::Batcher(const BatcherConfig& config, Observer& observer) : config_(config), observer_(observer) {}

Batcher::~Batcher() = default;

void Batcher::submit(SearchRequest request) {
  auto pending = std::make_shared<Pending>();
  pending->request = std::move(request);
  pending->bytes = planned_bytes(pending->nq(), pending->request.queries.cols(), pending->request.k);
  pending->missing = pending->nq();
  pending->arrived = Clock::now();
  Status refusal;
  {
    const Lock lock(mutex_);
    if (draining_)
      refusal = {Code::not_ready, "the server is shutting down"};
    else if (pending->bytes > config_.queue_bytes)
      refusal = {Code::memory_limit, "the request needs " + std::to_string(pending->bytes) +
                                         " bytes, the server's queue holds " +
                                         std::to_string(config_.queue_bytes) +
                                         "; send fewer queries at once or ask for fewer neighbors"};
    else if (pending->bytes > config_.queue_bytes - queued_bytes_)
      refusal = {Code::overloaded, "the server's queue is full: " + std::to_string(queued_bytes_) + " of " +
                                       std::to_string(config_.queue_bytes) + " bytes; try again later"};
    else {
      queued_bytes_ += pending->bytes;
      queue_.push_back(pending);
      last_arrival_ = pending->arrived;
    }
  }
  if (refusal.is_ok())
    changed_.notify_one();
  else
    pending->request.done({std::move(refusal), {}, 0, {}});
}

Status Batcher::post(std::function<void()> task) {
  {
    const Lock lock(mutex_);
    if (draining_) return {Code::not_ready, "the server is shutting down"};
    if (tasks_.size() >= kMostTasks) return {Code::overloaded, "the server's queue is full; try again later"};
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
  return {};
}

void Batcher::drain() {
  {
    const Lock lock(mutex_);
    draining_ = true;
  }
  changed_.notify_one();
}

void Batcher::run(Engine& engine, const std::function<void()>& idle,
                  std::chrono::milliseconds idle_interval) {
  Clock::time_point last_idle = Clock::now();
  Lock lock(mutex_);
  for (;;) {
    if (Clock::now() - last_idle >= idle_interval) {
      lock.unlock();
      idle();
      last_idle = Clock::now();
      lock.lock();
    }
    run_task(lock);
    if (queue_.empty()) {
      if (!tasks_.empty()) continue;
      if (draining_) return;
      changed_.wait_until(lock, last_idle + idle_interval);
      continue;
    }
    gather(lock);
    drop_dead(lock);
    Batch batch = next_batch();
    lock.unlock();
    if (!batch.pieces.empty()) search(engine, std::move(batch));
    lock.lock();
  }
}

/// Does one posted task, if there is one: tasks and batches take turns.
void Batcher::run_task(Lock& lock) {
  if (tasks_.empty()) return;
  const std::function<void()> task = std::move(tasks_.front());
  tasks_.pop_front();
  lock.unlock();
  task();
  lock.lock();
}

/// Waits for the companions of the last batch, who probably come again at once.
void Batcher::gather(Lock& lock) {
  if (last_batch_requests_ <= 1) return;
  const auto longest =
      std::max(config_.delay, std::chrono::duration_cast<std::chrono::microseconds>(
                                  std::chrono::duration<double>(last_batch_seconds_ * kGatherShare)));
  while (std::ssize(queue_) < last_batch_requests_ && !draining_) {
    const Clock::time_point until = std::min(last_batch_end_ + longest, last_arrival_ + config_.delay);
    if (Clock::now() >= until) return;
    changed_.wait_until(lock, until);
  }
}

/// Takes out requests that nobody waits for any more.
void Batcher::drop_dead(Lock& lock) {
  std::vector<PendingPtr> cancelled;
  std::vector<PendingPtr> expired;
  const Clock::time_point now = Clock::now();
  std::erase_if(queue_, [&](const PendingPtr& pending) {
    const RequestContext& context = *pending->request.context;
    if (context.is_cancelled) {
      cancelled.push_back(pending);
      return true;
    }
    if (context.is_expired(now)) {
      expired.push_back(pending);
      return true;
    }
    return false;
  });
  if (cancelled.empty() && expired.empty()) return;
  lock.unlock();
  for (const PendingPtr& pending : cancelled)
    finish(*pending, {Code::cancelled, "the client has cancelled the request"});
  for (const PendingPtr& pending : expired)
    finish(*pending, {Code::timeout, "the request's deadline has passed before it was searched"});
  lock.lock();
}

/// How many queries fit into a batch with answers of length k.
std::int64_t Batcher::room_for(const Pending& first, std::int64_t k) const {
  std::int64_t room = std::min(config_.batch_queries,
                               config_.batch_bytes / planned_bytes(1, first.request.queries.cols(), k));
  if (queries_per_second_ > 0) {
    const double seconds = std::chrono::duration<double>(config_.batch_time).count();
    room = std::min(room,
                    std::max(config_.turn_queries, static_cast<std::int64_t>(queries_per_second_ * seconds)));
  }
  return std::max<std::int64_t>(1, room);
}

/// Takes turns from the front of the queue; who is not done then goes to its end. @pre the mutex is held
Batcher::Batch Batcher::next_batch() {
  Batch batch;
  if (queue_.empty()) return batch;
  const PendingPtr first = queue_.front();
  batch.k = first->request.k;
  std::deque<PendingPtr> later;  // no room, or not to be searched together with the first
  while (!queue_.empty()) {
    PendingPtr pending = std::move(queue_.front());
    queue_.pop_front();
    const std::int64_t k = std::max(batch.k, pending->request.k);
    const std::int64_t room = room_for(*first, k) - batch.queries;
    if (pending->request.slot != first->request.slot ||
        !may_share_batch(first->request.k, pending->request.k) || room <= 0) {
      later.push_back(std::move(pending));
      continue;
    }
    const std::int64_t count = std::min({config_.turn_queries, pending->nq() - pending->next, room});
    if (!batch.pieces.empty() && batch.pieces.back().pending == pending)
      batch.pieces.back().count += count;
    else
      batch.pieces.push_back({pending, pending->next, count});
    batch.queries += count;
    batch.k = k;
    pending->next += count;
    if (pending->next < pending->nq()) queue_.push_back(std::move(pending));
  }
  queue_ = std::move(later);  // those who had no turn are the first of them
  return batch;
}

void Batcher::search(Engine& engine, Batch batch) {
  const SearchRequest& first = batch.pieces.front().pending->request;
  auto record = std::make_shared<BatchRecord>();
  record->collection = first.collection;
  record->requests = batch.requests();
  record->queries = batch.queries;
  record->k = batch.k;
  record->begin = std::chrono::system_clock::now();
  const double begin = steady_seconds();
  try {
    Matrix queries(DType::f32, batch.queries, first.queries.cols());
    std::byte* at = queries.data();
    for (const Piece& piece : batch.pieces) {
      const TypedView rows = piece.pending->request.queries.view();
      const std::size_t bytes = static_cast<std::size_t>(piece.count) * rows.row_bytes();
      std::memcpy(at, rows.row(piece.begin), bytes);
      at += bytes;
    }
    const TopK top = engine.search(first.slot, std::move(queries), batch.k, *record);
    record->total_seconds = steady_seconds() - begin;
    note_speed(*record);
    observer_.batch_finished(*record);
    deliver(batch, top, record);
  } catch (...) {
    fail(batch, status_of_current_exception());
  }
}

void Batcher::note_speed(const BatchRecord& record) {
  const Lock lock(mutex_);
  last_batch_requests_ = record.requests;
  last_batch_seconds_ = record.total_seconds;
  last_batch_end_ = Clock::now();
  if (record.queries < config_.turn_queries || record.total_seconds <= 0) return;
  const double speed = static_cast<double>(record.queries) / record.total_seconds;
  queries_per_second_ = queries_per_second_ > 0 ? (queries_per_second_ + speed) / 2 : speed;
}

void Batcher::deliver(const Batch& batch, const TopK& top, const std::shared_ptr<const BatchRecord>& record) {
  const Clock::time_point now = Clock::now();
  std::int64_t row = 0;
  for (const Piece& piece : batch.pieces) {
    Pending& pending = *piece.pending;
    SearchAnswer& answer = pending.answer;
    if (answer.batches.empty()) {
      answer.top = TopK(pending.nq(), pending.request.k, pending.request.metric);
      answer.queue_seconds =
          std::chrono::duration<double>(now - pending.arrived).count() - record->total_seconds;
    }
    answer.batches.push_back(record);
    const auto k = static_cast<std::size_t>(pending.request.k);
    for (std::int64_t q = 0; q < piece.count; ++q, ++row) {
      const ConstNeighborRow from = top.row(row);
      const NeighborRow to = answer.top.row(piece.begin + q);
      std::copy_n(from.neighbors.begin(), k, to.neighbors.begin());
      std::copy_n(from.distances.begin(), k, to.distances.begin());
    }
    pending.missing -= piece.count;
    if (pending.missing == 0) finish(pending, {});
  }
}

void Batcher::fail(const Batch& batch, const Status& status) {
  for (const Piece& piece : batch.pieces) {
    {
      const Lock lock(mutex_);
      std::erase(queue_, piece.pending);
    }
    finish(*piece.pending, status);
  }
}

/// Answers a request, once.
void Batcher::finish(Pending& pending, Status status) {
  if (std::exchange(pending.finished, true)) return;
  pending.answer.status = std::move(status);
  pending.request.queries = Matrix();
  pending.request.done(std::move(pending.answer));
  const Lock lock(mutex_);
  queued_bytes_ -= pending.bytes;
}

std::int64_t Batcher::queued_bytes() const {
  const Lock lock(mutex_);
  return queued_bytes_;
}

std::int64_t Batcher::queued_requests() const {
  const Lock lock(mutex_);
  return std::ssize(queue_);
}

bool Batcher::is_draining() const {
  const Lock lock(mutex_);
  return draining_;
}

}  // namespace mpishards::serve
