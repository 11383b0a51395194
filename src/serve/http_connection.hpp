#pragma once

#include <httplib.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <string>

namespace mpishards::serve {

/// One client's connection, plain or TLS, as the HTTP library reads and writes it, with what the library
/// leaves unlimited: how many bytes the head of a request may have, and how long head and body may take to
/// arrive. All of its methods are for the thread that serves it.
class HttpConnection final : public httplib::Stream {
 public:
  /// @param ssl  null for a plain one
  HttpConnection(socket_t socket, SSL* ssl) : socket_(socket), ssl_(ssl) {}

  /// The connection that this thread serves. @pre inside a handler of a GuardedServer
  static HttpConnection& current();
  static void set_current(HttpConnection* connection);

  /// Whether a request begins within the time. @param wants_stop  ends the wait
  template <class WantsStop>
  bool wait_for_request(std::chrono::seconds idle, const WantsStop& wants_stop) {
    const auto end = Clock::now() + idle;
    while (!has_input(kPoll)) {
      if (is_broken_ || wants_stop() || Clock::now() >= end) return false;
    }
    begin_head();
    return true;
  }

  /// False once the client has hung up, or said that it sends no more.
  bool has_client() const;
  /// From here on a body is read, which has limits of its own.
  void begin_body();
  /// Ends the connection behind this answer: what comes next on it is not the beginning of a request.
  void close_after_answer() { closes_ = true; }
  bool closes() const { return closes_ || is_broken_; }
  /// Lets a client that still sends read its answer, for a moment.
  void linger();

  bool is_readable() const override { return !is_broken_; }
  bool is_writable() const override { return !is_broken_; }
  ssize_t read(char* data, std::size_t size) override;
  ssize_t write(const char* data, std::size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& /*ip*/, int& /*port*/) const override {}
  socket_t socket() const override { return socket_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kPoll{50};
  static constexpr std::int64_t kHeadBytes = 64 << 10;
  static constexpr std::chrono::seconds kHeadTime{10};
  static constexpr std::chrono::seconds kBodyTime{60};

  void begin_head();
  bool has_input(std::chrono::milliseconds patience);
  ssize_t receive(char* data, std::size_t size);

  const socket_t socket_;
  SSL* const ssl_;
  std::array<char, 16384> buffer_{};
  std::size_t begin_ = 0;  // of what is in the buffer and was not read
  std::size_t end_ = 0;
  std::int64_t head_bytes_left_ = 0;
  bool is_head_ = true;
  bool closes_ = false;
  bool is_broken_ = false;
  Clock::time_point late_;
};

/// The library's server, plain (httplib::Server) or TLS (httplib::SSLServer), with HttpConnections.
template <class Base>
class GuardedServer final : public Base {
 public:
  using Base::Base;

 private:
  bool process_and_close_socket(socket_t socket) override;
};

extern template class GuardedServer<httplib::Server>;
extern template class GuardedServer<httplib::SSLServer>;

}  // namespace mpishards::serve
