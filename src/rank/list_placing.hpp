#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix_view.hpp"
#include "io/index_files.hpp"

namespace mpishards::rank {

/// Bytes of rows that are gathered before they are written.
inline constexpr std::int64_t kWriteBytes = std::int64_t{8} << 20;

/// Adds to counts[l] the rows with label l.
void count_labels(std::span<const std::int32_t> labels, std::span<std::int64_t> counts);

/// Where each list begins: sums of the counts before it, and of all.
std::vector<std::int64_t> list_starts(std::span<const std::int64_t> counts);

/// Brings a rank's rows to their lists: within a list they keep the base's order, because every rank's rows
/// begin behind those of the ranks before it and are taken in order.
class ListPlacer {
 public:
  /// @param next  place of the rank's first row in each list @param files  must outlive the placer
  ListPlacer(io::IndexFiles& files, std::vector<std::int64_t> next);

  /// Passes over rows that an earlier run has placed.
  void skip(std::span<const std::int32_t> labels) { count_labels(labels, next_); }

  /// Writes rows to their places, in runs as long as their lists have rows here. @pre as many ids and labels
  /// as rows @par Memory 8 bytes a row and kWriteBytes
  void place(TypedView rows, std::span<const GlobalId> ids, std::span<const std::int32_t> labels);

 private:
  void add(std::int64_t place, const std::byte* row, GlobalId id);
  void flush();

  io::IndexFiles& files_;
  std::vector<std::int64_t> next_;
  // Rows on their way to disk, which follow each other there.
  Matrix rows_;
  std::vector<GlobalId> ids_;
  std::int64_t first_place_ = 0;
  std::size_t waiting_ = 0;
};

}  // namespace mpishards::rank
