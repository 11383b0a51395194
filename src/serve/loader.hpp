#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "serve/cluster.hpp"
#include "serve/observer.hpp"

namespace mpishards::serve {

/// Loads collections in the background, one at a time, while the engine goes on searching. All methods are
/// for the engine's thread.
class Loader {
 public:
  /// @param log  one line about what was loaded, or failed
  Loader(Cluster& cluster, Observer& observer, std::function<void(const std::string&)> log)
      : cluster_(cluster), observer_(observer), log_(std::move(log)) {}

  /// Loads a collection (again), after those that were asked for before. What is loaded stays in service
  /// until the new rows are there, and for good where they can't be read.
  void request(int slot);
  /// Frees a collection, unless a load of it is under way.
  void release(int slot);
  /// Takes the next step if one is due; called often.
  void tick();
  bool is_busy() const { return current_.has_value() || !waiting_.empty(); }

 private:
  void finish();

  Cluster& cluster_;
  Observer& observer_;
  std::function<void(const std::string&)> log_;
  std::deque<int> waiting_;
  std::optional<int> current_;
};

}  // namespace mpishards::serve
