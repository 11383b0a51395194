#include "load.hpp"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <memory>
#include <utility>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "serve/milvus/client_wire.hpp"

namespace mpishards::bench {

namespace {

namespace pb = ::milvus::proto::milvus;
using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

Clock::duration to_duration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

/// One connection and its request at work.
struct LoadClient {
  std::unique_ptr<serve::milvus::Stub> stub;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::ClientAsyncResponseReader<pb::SearchResults>> reader;
  pb::SearchResults answer;
  grpc::Status status;
  std::size_t request = 0;  // which of the prepared ones
  Clock::time_point begin;
};

class LoadRun {
 public:
  LoadRun(const LoadPlan& plan, MatrixView<const float> queries, const std::optional<TopK>& expected)
      : plan_(plan), expected_(expected), clients_(narrow<std::size_t>(plan.clients)) {
    for (std::int64_t begin = 0; begin + plan.nq <= queries.rows; begin += plan.nq)
      requests_.push_back(serve::milvus::search_request(
          plan.collection, plan.described, queries.slice(begin, begin + plan.nq), plan.k, plan.params));
    connect();
  }

  ~LoadRun() {
    done_.Shutdown();
    void* tag = nullptr;
    for (bool ok = false; done_.Next(&tag, &ok);) {
    }
  }

  LoadResult run() {
    start_ = Clock::now() + to_duration(plan_.warm_up_seconds);
    end_ = start_ + to_duration(plan_.seconds);
    if (plan_.rate)
      run_open();
    else
      run_closed();
    result_.unsent = std::ssize(overdue_);
    return std::move(result_);
  }

 private:
  void connect() {
    std::vector<std::shared_ptr<grpc::Channel>> channels;
    for (LoadClient& client : clients_) {
      channels.push_back(serve::milvus::make_channel(plan_.server));
      channels.back()->GetState(/*try_to_connect=*/true);
      client.stub = pb::MilvusService::NewStub(channels.back());
    }
    const auto deadline = std::chrono::system_clock::now() + plan_.server.timeout;
    for (const auto& channel : channels)
      if (!channel->WaitForConnected(deadline))
        throw Error(ErrorKind::unavailable, plan_.server.address + ": no connection within " +
                                                std::to_string(plan_.server.timeout.count()) + " ms");
  }

  /// Each client asks again as soon as it has its answer.
  void run_closed() {
    for (LoadClient& client : clients_)
      if (may_begin(Clock::now())) send(client, Clock::now());
    while (busy_ > 0) {
      LoadClient& client = next_answer();
      if (const auto now = Clock::now(); may_begin(now)) send(client, now);
    }
  }

  /// Requests fall due by the clock; a client that becomes free takes the one that is due longest.
  void run_open() {
    std::vector<LoadClient*> idle;
    for (LoadClient& client : clients_) idle.push_back(&client);
    const auto first = Clock::now();
    std::int64_t n_due = 0;
    auto due = first;
    while (busy_ > 0 || may_begin(due)) {
      for (; due <= Clock::now() && may_begin(due);
           due = first + to_duration(static_cast<double>(n_due) / *plan_.rate)) {
        overdue_.push_back(due);
        n_begun_ += due >= start_ ? 1 : 0;
        ++n_due;
      }
      // What no client could send until the end stays unsent, or an overloaded server would never be left.
      while (!idle.empty() && !overdue_.empty() && Clock::now() < end_) {
        send(*idle.back(), overdue_.front());
        idle.pop_back();
        overdue_.pop_front();
      }
      if (LoadClient* client = answer_before(may_begin(due) ? due : Clock::time_point::max()))
        idle.push_back(client);
    }
  }

  bool may_begin(Clock::time_point when) const {
    return when < end_ && (plan_.most_requests == 0 || n_begun_ < plan_.most_requests);
  }

  void send(LoadClient& client, Clock::time_point begin) {
    if (!plan_.rate) n_begun_ += begin >= start_ ? 1 : 0;
    client.begin = begin;
    client.request = next_request_++ % requests_.size();
    client.context = std::make_unique<grpc::ClientContext>();
    serve::milvus::prepare(*client.context, plan_.server);
    client.reader = client.stub->AsyncSearch(client.context.get(), requests_[client.request], &done_);
    client.reader->Finish(&client.answer, &client.status, &client);
    ++busy_;
  }

  LoadClient& next_answer() { return *answer_before(Clock::time_point::max()); }

  /// The client whose answer came, which has been counted; nullptr where none came before `until`.
  LoadClient* answer_before(Clock::time_point until) {
    void* tag = nullptr;
    bool ok = false;
    if (until == Clock::time_point::max()) {
      if (busy_ == 0 || !done_.Next(&tag, &ok)) return nullptr;
    } else {
      const auto deadline =
          std::chrono::system_clock::now() +
          std::chrono::duration_cast<std::chrono::system_clock::duration>(until - Clock::now());
      if (done_.AsyncNext(&tag, &ok, deadline) != grpc::CompletionQueue::GOT_EVENT) return nullptr;
    }
    auto* client = static_cast<LoadClient*>(tag);
    --busy_;
    count(*client, Clock::now());
    return client;
  }

  void count(const LoadClient& client, Clock::time_point now) {
    const std::string error = error_of(client);
    const bool is_wrong = error.empty() && expected_ && !is_expected(client);
    result_.wrong += is_wrong ? 1 : 0;
    if (client.begin < start_) return;
    if (!error.empty()) ++result_.errors[error];
    result_.samples.push_back({seconds_between(start_, client.begin), seconds_between(client.begin, now),
                               error.empty() && !is_wrong});
    result_.seconds = seconds_between(start_, now);
  }

  static std::string error_of(const LoadClient& client) {
    if (!client.status.ok())
      return "gRPC " + std::to_string(client.status.error_code()) + ": " + client.status.error_message();
    const auto& status = client.answer.status();
    if (status.code() == 0 && status.error_code() == ::milvus::proto::common::Success) return "";
    return "code " + std::to_string(status.code()) + ": " + status.reason();
  }

  /// The answer's ids and distances are those of the expected rows, bit for bit.
  bool is_expected(const LoadClient& client) const {
    const TopK found = serve::milvus::read_answer(client.answer, plan_.nq, plan_.k, plan_.described.metric,
                                                  plan_.server.address);
    const std::int64_t first = narrow<std::int64_t>(client.request) * plan_.nq;
    for (std::int64_t q = 0; q < plan_.nq; ++q) {
      const ConstNeighborRow ours = found.row(q);
      const ConstNeighborRow wanted = expected_->row(first + q);
      if (!std::ranges::equal(ours.neighbors, wanted.neighbors.first(ours.neighbors.size())) ||
          !std::ranges::equal(ours.distances, wanted.distances.first(ours.distances.size())))
        return false;
    }
    return true;
  }

  const LoadPlan& plan_;
  const std::optional<TopK>& expected_;
  grpc::CompletionQueue done_;
  std::vector<pb::SearchRequest> requests_;
  std::vector<LoadClient> clients_;
  std::deque<Clock::time_point> overdue_;
  Clock::time_point start_;  // end of the warm-up
  Clock::time_point end_;
  std::size_t next_request_ = 0;
  std::int64_t n_begun_ = 0;  // after the warm-up
  std::int64_t busy_ = 0;
  LoadResult result_;
};

}  // namespace

std::vector<double> latencies_of(const LoadResult& result) {
  std::vector<double> latencies;
  for (const Sample& sample : result.samples)
    if (sample.ok) latencies.push_back(sample.latency);
  std::ranges::sort(latencies);
  return latencies;
}

double percentile(const std::vector<double>& sorted, double fraction) {
  const auto rank = static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

LoadResult run_load(const LoadPlan& plan, MatrixView<const float> queries,
                    const std::optional<TopK>& expected) {
  return LoadRun(plan, queries, expected).run();
}

}  // namespace mpishards::bench
