#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace mpishards::serve {

/// Hands items to one thread that may be as slow as its disk or peer. push() never waits for it: what the
/// queue has no room for is dropped and counted.
template <typename Item>
class BackgroundWriter {
 public:
  /// @param interval  how long an item may lie before the thread takes it; pushing wakes nobody before
  /// @param write     called on the thread with one or more items, in order of pushing; must not throw
  BackgroundWriter(std::size_t capacity, std::chrono::milliseconds interval,
                   std::function<void(std::vector<Item>)> write)
      : capacity_(capacity), interval_(interval), write_(std::move(write)), thread_([this] { loop(); }) {}

  /// Writes what was pushed before.
  ~BackgroundWriter() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;

  void push(Item item) {
    const std::lock_guard lock(mutex_);
    if (queue_.size() >= capacity_) {
      ++dropped_;
      return;
    }
    queue_.push_back(std::move(item));
    if (queue_.size() * 2 == capacity_) changed_.notify_all();
  }

  /// Waits until all that was pushed before is written.
  void flush() {
    std::unique_lock lock(mutex_);
    const std::int64_t wanted = ++flushes_wanted_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return flushes_done_ >= wanted; });
  }

  std::int64_t dropped() const { return dropped_; }

 private:
  void loop() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait_for(lock, interval_, [&] {
        return ends_ || flushes_wanted_ > flushes_done_ || queue_.size() * 2 >= capacity_;
      });
      const std::int64_t flushes = flushes_wanted_;
      const bool is_last = ends_;
      std::vector<Item> items = std::exchange(queue_, {});
      lock.unlock();
      if (!items.empty()) write_(std::move(items));
      lock.lock();
      flushes_done_ = flushes;
      changed_.notify_all();
      if (is_last && queue_.empty()) return;
    }
  }

  const std::size_t capacity_;
  const std::chrono::milliseconds interval_;
  const std::function<void(std::vector<Item>)> write_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Item> queue_;
  std::int64_t flushes_wanted_ = 0;
  std::int64_t flushes_done_ = 0;
  bool ends_ = false;
  std::atomic<std::int64_t> dropped_ = 0;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace mpishards::serve
