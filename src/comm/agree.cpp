#include "comm/agree.hpp"

#include <exception>
#include <new>
#include <optional>
#include <string>

#include "core/error.hpp"

namespace mpishards::comm {

namespace {

struct Failure {
  ErrorKind kind;
  std::string message;
};

std::optional<Failure> failure_of(const std::function<void()>& step) {
  try {
    step();
  } catch (const Error& error) {
    return Failure{error.kind(), error.what()};
  } catch (const std::bad_alloc&) {
    return Failure{ErrorKind::os, "out of memory; lower --memory or use more ranks"};
  } catch (const std::exception& error) {
    return Failure{ErrorKind::internal, error.what()};
  }
  return std::nullopt;
}

}  // namespace

void agree(const Communicator& comm, const std::function<void()>& step) {
  std::optional<Failure> failure = failure_of(step);
  // The lowest failing rank wins: -rank under a maximum, and one less than any of them for "no failure".
  const std::int64_t none = -static_cast<std::int64_t>(comm.size());
  const std::int64_t first = comm.max(failure ? -static_cast<std::int64_t>(comm.rank()) : none);
  if (first == none) return;
  const int culprit = static_cast<int>(-first);
  ErrorKind kind = failure ? failure->kind : ErrorKind::internal;
  comm.broadcast(kind, culprit);
  std::string message = failure ? failure->message : "";
  comm.broadcast_text(message, culprit);
  if (comm.size() > 1) message = "rank " + std::to_string(culprit) + ": " + message;
  throw AgreedError(kind, message);
}

}  // namespace mpishards::comm
