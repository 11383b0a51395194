#include "serve/loader.hpp"

#include <algorithm>

#include "core/error.hpp"

namespace mpishards::serve {

void Loader::request(int slot) {
  if (std::ranges::find(waiting_, slot) == waiting_.end()) waiting_.push_back(slot);
  tick();
}

void Loader::release(int slot) {
  if (current_ == slot) return;
  std::erase(waiting_, slot);
  cluster_.release(slot);
  observer_.collection_changed(*cluster_.catalogue().at(slot));
}

void Loader::tick() {
  if (current_ && cluster_.is_read(*current_)) finish();
  if (current_ || waiting_.empty()) return;
  current_ = waiting_.front();
  waiting_.pop_front();
  cluster_.begin_load(*current_);
}

void Loader::finish() {
  const int slot = *current_;
  current_.reset();
  try {
    cluster_.finish_load(slot);
  } catch (const Error& error) {
    log_("collection " + cluster_.catalogue().at(slot)->name + " could not be loaded: " + error.what());
    return;
  }
  const CollectionPtr info = cluster_.catalogue().at(slot);
  log_("collection " + info->name + " is loaded: " + std::to_string(info->rows) + " rows, generation " +
       std::to_string(info->generation));
  observer_.collection_changed(*info);
}

}  // namespace mpishards::serve
