#include "serve/batcher.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>
#include <thread>

namespace mpishards::serve {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kDim = 2;

/// Neighbors of a query are numbers made from it alone: answers that were mixed up show.
GlobalId expected_id(float first, std::int64_t place) {
  return static_cast<GlobalId>(first) * 1000 + place;
}

/// Stands in for the ranks; notes what it was asked for, and can be held.
class FakeEngine final : public Engine {
 public:
  TopK search(int slot, Matrix queries, std::int64_t k, BatchRecord& record) override {
    while (held) std::this_thread::sleep_for(1ms);
    batches.push_back({slot, queries.rows(), k, record.requests});
    if (fails) throw RequestError(Code::collection_not_loaded, "not loaded");
    TopK top(queries.rows(), k, Metric::l2);
    for (std::int64_t q = 0; q < queries.rows(); ++q)
      for (std::int64_t i = 0; i < k; ++i) {
        const float first = queries.as<float>().row(q)[0];
        top.row(q).neighbors[static_cast<std::size_t>(i)] = expected_id(first, i);
        top.row(q).distances[static_cast<std::size_t>(i)] = first + static_cast<float>(i);
      }
    return top;
  }

  struct Seen {
    int slot;
    std::int64_t queries;
    std::int64_t k;
    std::int64_t requests;
  };
  std::vector<Seen> batches;
  std::atomic<bool> held{false};
  bool fails = false;
};

/// Requests whose answers are kept in the order in which they come.
class Clients {
 public:
  SearchRequest request(int name, std::int64_t nq, std::int64_t k, int slot = 0) {
    SearchRequest request;
    request.slot = slot;
    request.queries = Matrix(DType::f32, nq, kDim);
    for (std::int64_t q = 0; q < nq; ++q) {
      request.queries.as<float>().row(q)[0] = first_of(name, q);
      request.queries.as<float>().row(q)[1] = 0;
    }
    request.k = k;
    request.context = std::make_shared<RequestContext>();
    request.done = [this, name](SearchAnswer answer) {
      const std::lock_guard lock(mutex_);
      order_.push_back(name);
      answers_[name] = std::move(answer);
    };
    return request;
  }

  static float first_of(int name, std::int64_t q) { return static_cast<float>(name * 100 + q % 100); }

  bool has(int name) {
    const std::lock_guard lock(mutex_);
    return answers_.contains(name);
  }
  const SearchAnswer& answer(int name) {
    const std::lock_guard lock(mutex_);
    return answers_.at(name);
  }
  const std::vector<int>& order() const { return order_; }

  void expect_right(int name, std::int64_t nq, std::int64_t k) {
    const SearchAnswer& found = answer(name);
    ASSERT_EQ(found.status.code, Code::ok) << found.status.reason;
    ASSERT_EQ(found.top.nq(), nq);
    ASSERT_EQ(found.top.k(), k);
    for (std::int64_t q = 0; q < nq; ++q)
      for (std::int64_t i = 0; i < k; ++i)
        ASSERT_EQ(found.top.row(q).neighbors[static_cast<std::size_t>(i)], expected_id(first_of(name, q), i))
            << "request " << name << ", query " << q << ", place " << i;
  }

 private:
  std::mutex mutex_;
  std::map<int, SearchAnswer> answers_;
  std::vector<int> order_;
};

/// Runs until everything that was submitted before is answered.
void run_to_end(Batcher& batcher, FakeEngine& engine) {
  batcher.drain();
  batcher.run(
      engine, [] {}, 1s);
}

TEST(Batcher, answers_do_not_depend_on_what_they_were_searched_with) {
  Observer observer;
  Batcher batcher({}, observer);
  FakeEngine engine;
  Clients clients;
  for (int name = 1; name <= 5; ++name) batcher.submit(clients.request(name, name * 3, 1 + name % 3));
  run_to_end(batcher, engine);
  for (int name = 1; name <= 5; ++name) clients.expect_right(name, name * 3, 1 + name % 3);
  EXPECT_EQ(engine.batches.size(), 1U) << "five small requests fit into one batch";
  EXPECT_EQ(batcher.queued_bytes(), 0);
}

TEST(Batcher, a_huge_request_is_searched_in_pieces_between_which_small_ones_go) {
  Observer observer;
  BatcherConfig config;
  config.batch_queries = 100;
  config.turn_queries = 10;
  Batcher batcher(config, observer);
  FakeEngine engine;
  Clients clients;
  batcher.submit(clients.request(1, 1000, 3));
  for (int name = 2; name <= 6; ++name) batcher.submit(clients.request(name, 1, 3));
  run_to_end(batcher, engine);
  EXPECT_EQ(clients.order().back(), 1);
  clients.expect_right(1, 1000, 3);
  for (int name = 2; name <= 6; ++name) clients.expect_right(name, 1, 3);
  EXPECT_EQ(engine.batches.front().requests, 6);
  for (const FakeEngine::Seen& batch : engine.batches) EXPECT_LE(batch.queries, 100);
}

TEST(Batcher, two_huge_requests_take_turns) {
  Observer observer;
  BatcherConfig config;
  config.batch_queries = 20;
  config.turn_queries = 10;
  Batcher batcher(config, observer);
  FakeEngine engine;
  Clients clients;
  batcher.submit(clients.request(1, 200, 1));
  batcher.submit(clients.request(2, 60, 1));
  run_to_end(batcher, engine);
  EXPECT_EQ(clients.order().front(), 2);
  clients.expect_right(1, 200, 1);
  clients.expect_right(2, 60, 1);
}

TEST(Batcher, collections_and_very_unequal_answer_lengths_are_searched_apart) {
  Observer observer;
  Batcher batcher({}, observer);
  FakeEngine engine;
  Clients clients;
  batcher.submit(clients.request(1, 1, 10, 0));
  batcher.submit(clients.request(2, 1, 10, 1));
  batcher.submit(clients.request(3, 1, 100000, 0));
  batcher.submit(clients.request(4, 1, 20, 0));
  run_to_end(batcher, engine);
  ASSERT_EQ(engine.batches.size(), 3U);
  EXPECT_EQ(engine.batches[0].requests, 2) << "requests 1 and 4";
  EXPECT_EQ(engine.batches[1].slot, 1);
  EXPECT_EQ(engine.batches[2].k, 100000);
  for (int name = 1; name <= 4; ++name) EXPECT_EQ(clients.answer(name).status.code, Code::ok);
}

TEST(Batcher, a_batch_stays_within_its_bytes) {
  Observer observer;
  BatcherConfig config;
  config.batch_bytes = 10 * planned_bytes(1, kDim, 50);
  Batcher batcher(config, observer);
  FakeEngine engine;
  Clients clients;
  batcher.submit(clients.request(1, 35, 50));
  run_to_end(batcher, engine);
  ASSERT_EQ(engine.batches.size(), 4U);
  for (const FakeEngine::Seen& batch : engine.batches) EXPECT_LE(batch.queries, 10);
  clients.expect_right(1, 35, 50);
}

TEST(Batcher, a_full_queue_refuses_and_never_grows) {
  Observer observer;
  BatcherConfig config;
  config.queue_bytes = 3 * planned_bytes(10, kDim, 5);
  Batcher batcher(config, observer);
  FakeEngine engine;
  Clients clients;
  for (int name = 1; name <= 4; ++name) batcher.submit(clients.request(name, 10, 5));
  ASSERT_TRUE(clients.has(4));
  EXPECT_EQ(clients.answer(4).status.code, Code::overloaded);
  EXPECT_EQ(batcher.queued_bytes(), config.queue_bytes);
  batcher.submit(clients.request(5, 31, 5));
  EXPECT_EQ(clients.answer(5).status.code, Code::memory_limit) << "it would not even fit into an empty queue";
  run_to_end(batcher, engine);
  for (int name = 1; name <= 3; ++name) clients.expect_right(name, 10, 5);
  EXPECT_EQ(batcher.queued_bytes(), 0);
}

TEST(Batcher, absurd_sizes_are_refused_without_overflow) {
  EXPECT_GT(planned_bytes(100000, 784, std::numeric_limits<std::int64_t>::max() / 2), std::int64_t{1} << 50);
}

TEST(Batcher, work_of_vanished_and_late_clients_is_dropped) {
  Observer observer;
  Batcher batcher({}, observer);
  FakeEngine engine;
  Clients clients;
  SearchRequest vanished = clients.request(1, 4, 2);
  vanished.context->is_cancelled = true;
  SearchRequest late = clients.request(2, 4, 2);
  late.context->deadline = RequestContext::Clock::now() - 1ms;
  batcher.submit(std::move(vanished));
  batcher.submit(std::move(late));
  batcher.submit(clients.request(3, 4, 2));
  run_to_end(batcher, engine);
  EXPECT_EQ(clients.answer(1).status.code, Code::cancelled);
  EXPECT_EQ(clients.answer(2).status.code, Code::timeout);
  clients.expect_right(3, 4, 2);
  ASSERT_EQ(engine.batches.size(), 1U);
  EXPECT_EQ(engine.batches[0].queries, 4);
}

TEST(Batcher, a_request_that_vanishes_half_way_is_not_searched_to_its_end) {
  Observer observer;
  BatcherConfig config;
  config.batch_queries = 10;
  Batcher batcher(config, observer);
  FakeEngine engine;
  Clients clients;
  SearchRequest request = clients.request(1, 1000, 1);
  const ContextPtr context = request.context;
  batcher.submit(std::move(request));
  batcher.drain();
  batcher.run(
      engine, [&] { context->is_cancelled = engine.batches.size() >= 3; }, 0ms);
  EXPECT_EQ(clients.answer(1).status.code, Code::cancelled);
  EXPECT_LE(engine.batches.size(), 4U);
  EXPECT_EQ(batcher.queued_bytes(), 0);
}

TEST(Batcher, a_failure_answers_all_requests_of_the_batch_and_the_next_ones_go_on) {
  Observer observer;
  Batcher batcher({}, observer);
  FakeEngine engine;
  engine.fails = true;
  Clients clients;
  batcher.submit(clients.request(1, 3, 2));
  batcher.submit(clients.request(2, 3, 2));
  ASSERT_TRUE(batcher.post([&] { batcher.submit(clients.request(3, 3, 2)); }).is_ok());
  batcher.drain();
  batcher.run(
      engine, [] {}, 1s);
  EXPECT_EQ(clients.answer(1).status.code, Code::collection_not_loaded);
  EXPECT_EQ(clients.answer(2).status.code, Code::collection_not_loaded);
  EXPECT_EQ(clients.answer(3).status.code, Code::not_ready) << "it came after the drain";
}

TEST(Batcher, requests_of_many_threads_share_batches_and_a_lone_one_is_not_delayed) {
  Observer observer;
  BatcherConfig config;
  config.delay = 200ms;
  Batcher batcher(config, observer);
  FakeEngine engine;
  Clients clients;
  std::thread runner([&] {
    batcher.run(
        engine, [] {}, 1s);
  });

  const auto begin = RequestContext::Clock::now();
  batcher.submit(clients.request(1, 1, 1));
  while (!clients.has(1)) std::this_thread::yield();
  EXPECT_LT(RequestContext::Clock::now() - begin, 100ms);

  engine.held = true;
  batcher.submit(clients.request(2, 1, 1));
  std::this_thread::sleep_for(20ms);
  std::vector<std::thread> threads;
  for (int name = 3; name <= 12; ++name)
    threads.emplace_back([&, name] { batcher.submit(clients.request(name, 1, 1)); });
  for (std::thread& thread : threads) thread.join();
  engine.held = false;
  batcher.drain();
  runner.join();
  for (int name = 1; name <= 12; ++name) clients.expect_right(name, 1, 1);
  EXPECT_EQ(engine.batches.size(), 3U);
  EXPECT_EQ(engine.batches.back().requests, 10);
}

}  // namespace
}  // namespace mpishards::serve
