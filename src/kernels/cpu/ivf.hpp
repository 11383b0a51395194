#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "core/metric.hpp"
#include "kernels/index.hpp"

namespace mpishards::kernels::cpu {

/// What tests set by hand; each member left out is the engine's own choice.
struct IvfOverrides {
  std::optional<std::int64_t> query_tile;
  std::optional<std::int64_t> chunk_queries;
  std::optional<std::int64_t> base_tile;
  std::optional<std::int64_t> buffer_entries;  // at least 2 * k
  std::optional<bool> split_base;
  double error_factor = 1;  // below 1 the certificate is a lie
};

/// Inverted file: exact inside the lists that a query looks into, by the same screen and proof as flat.
std::unique_ptr<Index> make_ivf(Metric metric, const EngineOptions& options);
std::unique_ptr<Index> make_ivf(Metric metric, const EngineOptions& options, const IvfOverrides& overrides);

}  // namespace mpishards::kernels::cpu
