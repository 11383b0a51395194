#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace mpishards::serve {

/// A few threads that prepare answers, so that the engine's thread need not.
class Executor {
 public:
  explicit Executor(int n_threads);
  /// Does what was handed in before, then ends.
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// Thread safe. @param work  must not throw
  void run(std::function<void()> work);

 private:
  void loop();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace mpishards::serve
