#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "core/types.hpp"

namespace mpishards::serve {

/// Any set of ids, as sorted intervals that neither touch nor overlap: what an expression over the primary
/// key selects, whether or not rows with such ids exist.
class IdSet {
 public:
  /// Both ends belong to it.
  struct Interval {
    GlobalId first = 0;
    GlobalId last = 0;
    friend bool operator==(const Interval&, const Interval&) = default;
  };
  static constexpr GlobalId kSmallest = std::numeric_limits<GlobalId>::min();
  static constexpr GlobalId kLargest = std::numeric_limits<GlobalId>::max();

  IdSet() = default;
  static IdSet all() { return of_interval(kSmallest, kLargest); }
  /// Empty where last < first.
  static IdSet of_interval(GlobalId first, GlobalId last);
  static IdSet of(std::vector<GlobalId> ids);
  /// @pre intervals are what intervals() of some set returned
  static IdSet of_intervals(std::vector<Interval> intervals);

  bool is_all() const { return *this == all(); }
  bool is_empty() const { return intervals_.empty(); }
  /// @par Cost log of the number of intervals
  bool contains(GlobalId id) const;
  IdSet complement() const;
  const std::vector<Interval>& intervals() const { return intervals_; }

  friend IdSet intersection(const IdSet& a, const IdSet& b);
  friend IdSet united(const IdSet& a, const IdSet& b);
  friend bool operator==(const IdSet&, const IdSet&) = default;

 private:
  void append(Interval interval);

  std::vector<Interval> intervals_;
};

}  // namespace mpishards::serve
