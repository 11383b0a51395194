#include "serve/server.hpp"

#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"
#include "io/file.hpp"
#include "io/vector_source.hpp"
#include "rank/host_info.hpp"
#include "rank/stop.hpp"
#include "serve/cluster.hpp"
#include "serve/executor.hpp"
#include "serve/front.hpp"
#include "serve/heap.hpp"
#include "serve/http_front.hpp"
#include "serve/loader.hpp"

namespace mpishards::serve {

namespace {

std::atomic<bool> g_reload{false};
static_assert(std::atomic<bool>::is_always_lock_free, "signal handlers may only touch lock-free atomics");

constexpr std::chrono::milliseconds kTick{20};
constexpr double kHeartbeatSeconds = 1;
constexpr std::chrono::seconds kClosingGrace{5};
constexpr int kAnswerThreads = 2;

void say(const std::string& line) {
  std::fprintf(stderr, "mpishards: %s\n", line.c_str());
}

void check_address(const ServerConfig& config, const std::string& address) {
  if (address.empty() || is_loopback(address) || !config.token_file.empty()) return;
  throw Error(ErrorKind::usage,
              "others than this host reach " + address +
                  ": give --token-file FILE (and --tls-cert, --tls-key), or listen on 127.0.0.1");
}

void check_config(const ServerConfig& config) {
  check_address(config, config.listen);
  check_address(config, config.http);
  if (config.tls_cert.empty() != config.tls_key.empty())
    throw Error(ErrorKind::usage, "--tls-cert and --tls-key belong together");
  check_observability(config.observability);
}

/// How clients on other hosts reach an address that stands for all of this host's.
std::string reachable(const std::string& address) {
  if (address.starts_with("unix:")) return address;
  const auto [host, port] = parse_address(address);
  return host == "0.0.0.0" || host == "::" ? rank::host_name() + ":" + std::to_string(port) : address;
}

/// host:port of gRPC in the first line, of HTTP in the second; there while the server is ready.
class DiscoveryFile {
 public:
  explicit DiscoveryFile(std::string path) : path_(std::move(path)) {}
  ~DiscoveryFile() { remove(); }
  DiscoveryFile(const DiscoveryFile&) = delete;
  DiscoveryFile& operator=(const DiscoveryFile&) = delete;

  void write(const std::vector<std::unique_ptr<Front>>& fronts) {
    if (path_.empty()) return;
    std::string text;
    for (const auto& front : fronts) text += reachable(front->address()) + "\n";
    io::write_text_atomically(path_, text);
    written_ = true;
  }

  void remove() noexcept {
    std::error_code ignored;
    if (std::exchange(written_, false)) std::filesystem::remove(path_, ignored);
  }

 private:
  std::string path_;
  bool written_ = false;
};

/// Sees when a busy time is over.
class Activity final : public Observer {
 public:
  void request_finished(const RequestRecord& /*record*/) override { ++finished_; }

  /// Asked now and then: whether requests have ended since the last rest, but none since it was asked before.
  bool begins_rest() {
    const std::int64_t finished = finished_;
    const bool is_quiet = std::exchange(seen_, finished) == finished;
    return is_quiet && std::exchange(rested_, finished) != finished;
  }

 private:
  std::atomic<std::int64_t> finished_{0};
  std::int64_t seen_ = 0;    // when last asked
  std::int64_t rested_ = 0;  // at the last rest
};

/// Rank 0's part: fronts, queue and the loop that drives the ranks.
class Server {
 public:
  Server(const ServerConfig& config, Cluster& cluster, Observers& observers)
      : config_(config),
        cluster_(cluster),
        observers_(observers),
        observability_(config.observability, observers),
        batcher_(config.batcher, observers),
        loader_(cluster, observers, say),
        executor_(kAnswerThreads),
        service_(batcher_, cluster, loader_, executor_),
        discovery_(config.discovery_file) {
    observers_.add(activity_);
  }

  /// Opens the addresses: who connects is told that collections are still being loaded.
  void open() {
    if (!config_.token_file.empty()) tokens_ = TokenSet::read(config_.token_file);
    const FrontContext context{config_, service_, cluster_.catalogue(), batcher_, observers_,
                               tokens_, state_};
    fronts_.push_back(make_grpc_front(context));
    if (!config_.http.empty()) fronts_.push_back(make_http_front(context, observability_));
  }

  void serve() {
    for (const CollectionPtr& info : cluster_.catalogue().all()) {
      observers_.collection_changed(*info);
      say("collection " + info->name + ": " + std::to_string(info->rows) + " x " + std::to_string(info->dim) +
          " " + std::string(to_string(info->dtype)) + ", " + std::string(to_string(info->metric)) + ", " +
          std::to_string(info->shards.size()) + " shards");
    }
    // In this order: who finds the file may ask at once.
    state_.is_ready = true;
    discovery_.write(fronts_);
    std::string addresses;
    for (const auto& front : fronts_) addresses += (addresses.empty() ? "" : " and ") + front->address();
    say("serving on " + addresses);
    batcher_.run(
        cluster_, [this] { tick(); }, kTick);
    say("all accepted requests are answered");
  }

  void close() {
    discovery_.remove();
    for (const auto& front : fronts_) front->shut_down(std::chrono::system_clock::now() + kClosingGrace);
    fronts_.clear();
  }

 private:
  /// Between batches, on the engine's thread.
  void tick() {
    loader_.tick();
    if (g_reload.exchange(false)) reload();
    const double now = steady_seconds();
    if (now - last_heartbeat_ >= kHeartbeatSeconds) {
      last_heartbeat_ = now;
      if (cluster_.heartbeat(activity_->begins_rest())) begin_drain();
    }
    if (rank::stop_level() > 0) begin_drain();
    if (!drain_began_) return;
    const bool is_late = now - *drain_began_ > static_cast<double>(config_.drain_limit.count());
    if ((service_.active_requests() == 0 && !loader_.is_busy()) || is_late) batcher_.drain();
  }

  void reload() {
    say("reloading all collections");
    observability_.reopen_logs();
    for (const CollectionPtr& info : cluster_.catalogue().all())
      if (info->state == LoadState::loaded) loader_.request(info->slot);
  }

  void begin_drain() {
    if (drain_began_) return;
    drain_began_ = steady_seconds();
    state_.is_draining = true;
    state_.is_ready = false;
    discovery_.remove();
    service_.begin_drain();
    say("stopping: " + std::to_string(service_.active_requests()) + " requests are still to be answered");
  }

  const ServerConfig& config_;
  Cluster& cluster_;
  Observers& observers_;
  Observability observability_;
  ServerState state_;
  TokenSet tokens_;
  Batcher batcher_;
  Loader loader_;
  Executor executor_;
  SearchService service_;
  DiscoveryFile discovery_;
  std::vector<std::unique_ptr<Front>> fronts_;
  std::shared_ptr<Activity> activity_ = std::make_shared<Activity>();
  double last_heartbeat_ = 0;
  std::optional<double> drain_began_;
};

}  // namespace

Address parse_address(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  const bool is_number =
      !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number || colon == 0 || std::stoi(port) > 65535)
    throw Error(ErrorKind::usage,
                "'" + address + "' is no address; expected HOST:PORT, such as 127.0.0.1:19530");
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return {host, std::stoi(port)};
}

bool is_loopback(const std::string& address) {
  if (address.starts_with("unix:")) return true;
  const std::string host = parse_address(address).host;
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

void request_reload() noexcept {
  g_reload = true;
}

void run_server(const ServerConfig& config, const comm::Communicator& world, Observers& observers) {
  keep_heap_small();
  std::optional<Server> server;
  Cluster cluster(config.collections, config.engine, world);
  comm::agree(world, [&] {
    check_config(config);
    if (!world.is_root()) return;
    // Before there are threads: this forks.
    for (const CollectionSpec& spec : config.collections)
      for (const io::InputSpec& input : spec.base) io::probe_in_child(input);
    server.emplace(config, cluster, observers);
    server->open();
  });
  cluster.load_all();
  if (!world.is_root()) return cluster.follow();
  server->serve();
  server->close();
  cluster.stop();
}

}  // namespace mpishards::serve
