#include "serve/http_connection.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace mpishards::serve {
namespace {

thread_local HttpConnection* t_current = nullptr;

constexpr std::chrono::seconds kIdle{
    2};  // between requests; also how long the server's end waits for idle clients
constexpr std::chrono::milliseconds kLingerTime{500};
constexpr std::int64_t kLingerBytes = 1 << 20;

struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};
using SslPtr = std::unique_ptr<SSL, FreeSsl>;

/// The TLS side of a connection. @return whether it is up; a plain server's always is
bool secure(httplib::Server& /*server*/, socket_t /*socket*/, SslPtr& /*ssl*/) {
  return true;
}

bool secure(httplib::SSLServer& server, socket_t socket, SslPtr& ssl) {
  ssl.reset(SSL_new(server.ssl_context()));
  return ssl && SSL_set_fd(ssl.get(), socket) == 1 && SSL_accept(ssl.get()) == 1;
}

}  // namespace

HttpConnection& HttpConnection::current() {
  return *t_current;
}
void HttpConnection::set_current(HttpConnection* connection) {
  t_current = connection;
}

void HttpConnection::begin_head() {
  is_head_ = true;
  head_bytes_left_ = kHeadBytes;
  late_ = Clock::now() + kHeadTime;
}

void HttpConnection::begin_body() {
  is_head_ = false;
  late_ = Clock::now() + kBodyTime;
}

bool HttpConnection::has_input(std::chrono::milliseconds patience) {
  if (begin_ < end_ || (ssl_ != nullptr && SSL_pending(ssl_) > 0)) return true;
  pollfd wait{socket_, POLLIN, 0};
  return ::poll(&wait, 1, static_cast<int>(patience.count())) > 0;
}

bool HttpConnection::has_client() const {
  pollfd hung_up{socket_, POLLRDHUP, 0};
  return ::poll(&hung_up, 1, 0) <= 0;
}

/// Waits no longer than the socket's own timeout, which the library sets.
ssize_t HttpConnection::receive(char* data, std::size_t size) {
  if (ssl_ != nullptr) return SSL_read(ssl_, data, static_cast<int>(size));
  ssize_t got = 0;
  do got = ::recv(socket_, data, size, 0);
  while (got < 0 && errno == EINTR);
  return got;
}

ssize_t HttpConnection::read(char* data, std::size_t size) {
  if (is_broken_ || Clock::now() > late_ || (is_head_ && head_bytes_left_ <= 0)) {
    closes_ = true;
    return -1;
  }
  if (begin_ == end_) {
    const ssize_t got = receive(buffer_.data(), buffer_.size());
    if (got <= 0) {
      is_broken_ = got == 0;
      closes_ = true;
      return got;
    }
    begin_ = 0;
    end_ = static_cast<std::size_t>(got);
  }
  const std::size_t taken = std::min(size, end_ - begin_);
  std::memcpy(data, buffer_.data() + begin_, taken);
  begin_ += taken;
  if (is_head_) head_bytes_left_ -= static_cast<std::int64_t>(taken);
  return static_cast<ssize_t>(taken);
}

ssize_t HttpConnection::write(const char* data, std::size_t size) {
  constexpr std::size_t kMostAtOnce = 1 << 20;
  size = std::min(size, kMostAtOnce);
  if (is_broken_ || size == 0) return is_broken_ ? -1 : 0;
  ssize_t sent = 0;
  if (ssl_ != nullptr) {
    sent = SSL_write(ssl_, data, static_cast<int>(size));
  } else {
    do sent = ::send(socket_, data, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
  }
  if (sent <= 0) is_broken_ = true;
  return sent > 0 ? sent : -1;
}

void HttpConnection::linger() {
  if (is_broken_ || !closes_) return;
  if (ssl_ != nullptr) SSL_shutdown(ssl_);
  ::shutdown(socket_, SHUT_WR);
  const auto end = Clock::now() + kLingerTime;
  std::int64_t skipped = 0;
  while (Clock::now() < end && skipped < kLingerBytes) {
    pollfd wait{socket_, POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(kPoll.count())) <= 0) continue;
    const ssize_t got = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (got <= 0) return;
    skipped += got;
  }
}

void HttpConnection::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &length) != 0) return;
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ip = ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    port = ntohs(v4.sin_port);
  } else if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    ip = ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
    port = ntohs(v6.sin6_port);
  }
}

template <class Base>
bool GuardedServer<Base>::process_and_close_socket(socket_t socket) {
  SslPtr ssl;
  if (secure(*this, socket, ssl)) {
    HttpConnection connection(socket, ssl.get());
    HttpConnection::set_current(&connection);
    const auto wants_stop = [this] { return this->svr_sock_ == INVALID_SOCKET; };
    bool goes_on = true;
    while (goes_on && !wants_stop() && connection.wait_for_request(kIdle, wants_stop)) {
      bool client_closes = false;
      const bool is_answered = this->process_request(connection, false, client_closes, nullptr);
      goes_on = is_answered && !client_closes && !connection.closes();
    }
    connection.linger();
    HttpConnection::set_current(nullptr);
  }
  ssl.reset();
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
  return true;
}

template class GuardedServer<httplib::Server>;
template class GuardedServer<httplib::SSLServer>;

}  // namespace mpishards::serve
