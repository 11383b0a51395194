#include "rank/list_placing.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace mpishards::rank {

namespace {

std::size_t index_of(std::int32_t label) {
  return static_cast<std::size_t>(label);
}

}  // namespace

void count_labels(std::span<const std::int32_t> labels, std::span<std::int64_t> counts) {
  for (const std::int32_t label : labels) ++counts[index_of(label)];
}

std::vector<std::int64_t> list_starts(std::span<const std::int64_t> counts) {
  std::vector<std::int64_t> starts(counts.size() + 1);
  std::inclusive_scan(counts.begin(), counts.end(), starts.begin() + 1);
  return starts;
}

ListPlacer::ListPlacer(io::IndexFiles& files, std::vector<std::int64_t> next)
    : files_(files),
      next_(std::move(next)),
      rows_(files.shape().dtype,
            std::max<std::int64_t>(
                1, kWriteBytes / (files.shape().row_bytes() + static_cast<std::int64_t>(sizeof(GlobalId)))),
            files.shape().d),
      ids_(static_cast<std::size_t>(rows_.rows())) {}

void ListPlacer::place(TypedView rows, std::span<const GlobalId> ids, std::span<const std::int32_t> labels) {
  std::vector<std::int64_t> counts(next_.size());
  count_labels(labels, counts);
  std::vector<std::int64_t> at = list_starts(counts);
  std::vector<std::int64_t> order(labels.size());  // the block's rows by list
  for (std::size_t row = 0; row < labels.size(); ++row)
    order[static_cast<std::size_t>(at[index_of(labels[row])]++)] = static_cast<std::int64_t>(row);
  for (const std::int64_t row : order) {
    const auto r = static_cast<std::size_t>(row);
    add(next_[index_of(labels[r])]++, rows.row(row), ids[r]);
  }
  flush();
}

void ListPlacer::add(std::int64_t place, const std::byte* row, GlobalId id) {
  const bool follows = place == first_place_ + static_cast<std::int64_t>(waiting_);
  if (waiting_ == ids_.size() || !follows) flush();
  if (waiting_ == 0) first_place_ = place;
  std::memcpy(rows_.data() + waiting_ * rows_.view().row_bytes(), row, rows_.view().row_bytes());
  ids_[waiting_++] = id;
}

void ListPlacer::flush() {
  const TypedView rows = rows_.view();
  const auto count = static_cast<std::int64_t>(std::exchange(waiting_, 0));
  if (count > 0)
    files_.write_rows(first_place_, {rows.dtype, rows.data, count, rows.cols},
                      std::span(ids_).first(static_cast<std::size_t>(count)));
}

}  // namespace mpishards::rank
