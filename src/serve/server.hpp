#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "rank/search_engine.hpp"
#include "serve/batcher.hpp"
#include "serve/catalogue.hpp"
#include "serve/collection.hpp"
#include "serve/observability.hpp"
#include "serve/observer.hpp"
#include "serve/search_service.hpp"
#include "serve/token_set.hpp"

namespace mpishards::serve {

/// Everything that decides a server; validated by the command line before it gets here.
struct ServerConfig {
  std::vector<CollectionSpec> collections;
  rank::SearchEngineConfig engine;  // the metric is each collection's own
  BatcherConfig batcher;
  std::string listen;  // of gRPC: HOST:PORT, port 0: any free one, or unix:PATH
  std::string http;    // of REST, health and metrics: HOST:PORT; empty: none
  std::string discovery_file;
  std::string token_file;
  std::string tls_cert;
  std::string tls_key;
  ObservabilityConfig observability;
  std::int64_t message_bytes = std::int64_t{512} << 20;  // of one request or answer
  std::chrono::seconds drain_limit{60};                  // after which requests at work are given up
};

/// What the server's threads may ask about it.
struct ServerState {
  std::atomic<bool> is_ready{false};  // every collection is loaded, and it does not drain
  std::atomic<bool> is_draining{false};
};

/// What a front, that is one wire, works with. Everything outlives it.
struct FrontContext {
  const ServerConfig& config;
  SearchService& service;
  const Catalogue& catalogue;
  const Batcher& batcher;
  Observer& observer;
  const TokenSet& tokens;
  const ServerState& state;
};

/// One wire: accepts connections from its construction to shut_down().
class Front {
 public:
  virtual ~Front() = default;
  /// HOST:PORT or unix:PATH, with the port that it really has.
  virtual std::string address() const = 0;
  /// Accepts no more, waits for answers on their way until `deadline`, then closes.
  virtual void shut_down(std::chrono::system_clock::time_point deadline) = 0;
};

struct Address {
  std::string host;  // without brackets
  int port = 0;
};

/// Splits HOST:PORT or [HOST]:PORT. @throws Error{usage}
Address parse_address(const std::string& address);

/// Whether only this host reaches the address. @throws Error{usage} where it is none
bool is_loopback(const std::string& address);

/// Asks the running server to load all its collections again; async-signal-safe.
void request_reload() noexcept;

/// Serves until it is asked to stop (rank::request_stop on any rank), answers what it has accepted, and
/// returns. Collective over world.
/// @param observers  of rank 0
/// @throws Error, the same on every rank, where it can't start
void run_server(const ServerConfig& config, const comm::Communicator& world, Observers& observers);

}  // namespace mpishards::serve
