#include "serve/id_set.hpp"

#include <algorithm>

namespace mpishards::serve {

/// Joins an interval that begins no sooner than all before it.
void IdSet::append(Interval interval) {
  if (intervals_.empty() ||
      (intervals_.back().last != kLargest && interval.first > intervals_.back().last + 1))
    intervals_.push_back(interval);
  else
    intervals_.back().last = std::max(intervals_.back().last, interval.last);
}

IdSet IdSet::of_interval(GlobalId first, GlobalId last) {
  IdSet set;
  if (first <= last) set.intervals_.push_back({first, last});
  return set;
}

IdSet IdSet::of(std::vector<GlobalId> ids) {
  std::ranges::sort(ids);
  IdSet set;
  for (const GlobalId id : ids) set.append({id, id});
  return set;
}

IdSet IdSet::of_intervals(std::vector<Interval> intervals) {
  IdSet set;
  set.intervals_ = std::move(intervals);
  return set;
}

bool IdSet::contains(GlobalId id) const {
  const auto after = std::ranges::upper_bound(intervals_, id, {}, &Interval::first);
  return after != intervals_.begin() && std::prev(after)->last >= id;
}

IdSet IdSet::complement() const {
  IdSet set;
  GlobalId next = kSmallest;
  for (const Interval& interval : intervals_) {
    if (interval.first > next) set.intervals_.push_back({next, interval.first - 1});
    if (interval.last == kLargest) return set;
    next = interval.last + 1;
  }
  set.intervals_.push_back({next, kLargest});
  return set;
}

IdSet intersection(const IdSet& a, const IdSet& b) {
  IdSet set;
  auto left = a.intervals_.begin();
  auto right = b.intervals_.begin();
  while (left != a.intervals_.end() && right != b.intervals_.end()) {
    const IdSet::Interval both{std::max(left->first, right->first), std::min(left->last, right->last)};
    if (both.first <= both.last) set.intervals_.push_back(both);
    if (left->last < right->last)
      ++left;
    else
      ++right;
  }
  return set;
}

IdSet united(const IdSet& a, const IdSet& b) {
  std::vector<IdSet::Interval> joined;
  std::ranges::merge(a.intervals_, b.intervals_, std::back_inserter(joined), {}, &IdSet::Interval::first,
                     &IdSet::Interval::first);
  IdSet set;
  for (const IdSet::Interval& interval : joined) set.append(interval);
  return set;
}

}  // namespace mpishards::serve
