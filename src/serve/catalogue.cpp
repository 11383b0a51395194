#include "serve/catalogue.hpp"

#include <algorithm>

namespace mpishards::serve {

CollectionPtr Catalogue::find(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const auto found =
      std::ranges::find_if(collections_, [&](const CollectionPtr& info) { return info->name == name; });
  return found == collections_.end() ? nullptr : *found;
}

CollectionPtr Catalogue::at(int slot) const {
  const std::lock_guard lock(mutex_);
  return collections_.at(static_cast<std::size_t>(slot));
}

std::vector<CollectionPtr> Catalogue::all() const {
  const std::lock_guard lock(mutex_);
  return collections_;
}

bool Catalogue::is_complete() const {
  const std::lock_guard lock(mutex_);
  return std::ranges::none_of(collections_,
                              [](const CollectionPtr& info) { return info->state == LoadState::loading; });
}

void Catalogue::set(CollectionInfo info) {
  const std::lock_guard lock(mutex_);
  const auto slot = static_cast<std::size_t>(info.slot);
  if (slot == collections_.size()) collections_.emplace_back();
  collections_.at(slot) = std::make_shared<const CollectionInfo>(std::move(info));
}

}  // namespace mpishards::serve
