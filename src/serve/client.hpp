#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/matrix_view.hpp"
#include "core/metric.hpp"
#include "core/topk.hpp"

namespace mpishards::serve {

/// Where a server is and how to talk to it.
struct ClientConfig {
  std::string address;                        // HOST:PORT or unix:PATH
  std::string token;                          // or user:password; empty: none
  std::string tls_ca;                         // file with the certificates to trust; empty: no TLS
  std::chrono::milliseconds timeout{30'000};  // of one call
};

/// A collection as its server describes it.
struct ServedCollection {
  std::string vector_field;
  std::int64_t dim = 0;
  std::int64_t rows = 0;
  Metric metric = Metric::l2;
};

/// A small client of the Milvus protocol: as much of it as ping and query need. Not thread safe.
class Client {
 public:
  /// Does not connect yet. @throws Error{input_missing|permission} for the certificates
  explicit Client(const ClientConfig& config);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Version text of a server that is ready.
  /// @throws Error{unavailable} where there is none, or it is not ready; Error{permission} for a wrong token
  std::string ping();
  /// @throws also Error{usage} for an unknown collection
  ServedCollection describe(const std::string& collection);
  /// @param described  what describe() said
  /// @param queries    nq x dim float32
  /// @return nq x k, padded
  /// @throws also Error{data} for an answer that makes no sense
  TopK search(const std::string& collection, const ServedCollection& described,
              MatrixView<const float> queries, std::int64_t k);

 private:
  struct Wire;
  std::unique_ptr<Wire> wire_;
};

}  // namespace mpishards::serve
