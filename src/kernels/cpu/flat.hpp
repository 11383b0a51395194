#pragma once

#include <memory>
#include <optional>

#include "core/metric.hpp"
#include "kernels/cpu/plane.hpp"
#include "kernels/index.hpp"
#include "kernels/search_plan.hpp"

namespace mpishards::kernels::cpu {

/// What tests set by hand; each member left out is the engine's own choice.
struct FlatOverrides {
  std::optional<std::int64_t> query_tile;
  std::optional<std::int64_t> base_tile;
  std::optional<std::int64_t> buffer_entries;  // at least 2 * k
  std::optional<std::int64_t> sample_rows;
  std::optional<bool> split_base;
  std::optional<PlaneType> plane;  // what rows are packed as; u8: not at all, unless they are such bytes
  std::optional<std::int64_t> queries_worth_packing;  // searched so far, for a plane to be made
  std::optional<std::int64_t> queries_worth_cell;     // the same for each cell, for rows to be divided
  double error_factor = 1;                            // below 1 the certificate is a lie
};

/// Flat exact search: every row against every query in a fast type, what can't be excluded again in double.
std::unique_ptr<Index> make_flat(Metric metric, const EngineOptions& options);
std::unique_ptr<Index> make_flat(Metric metric, const EngineOptions& options, const FlatOverrides& overrides);

}  // namespace mpishards::kernels::cpu
