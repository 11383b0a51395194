#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.hpp"
#include "core/metric.hpp"
#include "core/types.hpp"
#include "kernels/index.hpp"

namespace mpishards::rank {

/// How the base's rows are shared out to the ranks; answers do not depend on it.
struct Balance {
  enum class Kind : std::uint8_t {
    automatic,  // equal shares where all ranks are alike; else by the median speed of each kind of rank
    equal,
    measured,  // by the speed that each rank shows
    given,
  };
  Kind kind = Kind::automatic;
  std::vector<double> weights;  // one a rank, > 0, where they are given
};

/// "auto", "equal", "measured", or a weight for each rank: "1,1,0.25".
/// @throws Error{usage} for anything else
Balance parse_balance(std::string_view text);

/// What a rank searches with.
struct RankKind {
  std::string engine = "cpu";  // a name that kernels::resolve_engine gives
  kernels::EngineOptions options;
};

/// Relative speeds of all ranks, the largest is 1; nothing where shares are equal. Collective over comm.
/// @param memory_bytes  that a rank may hold
/// @throws Error{usage} where weights are given, but not one for each rank
/// @par Cost  nothing where none is measured, else that of measure_speed
std::vector<double> shard_weights(const Balance& balance, const RankKind& mine, Metric metric, std::int64_t d,
                                  DType dtype, std::int64_t memory_bytes, const comm::Communicator& comm);

/// Pairs of a query and a row that a rank screens in a second, in a search of rows of this size that it makes
/// up.
/// @param memory_bytes  made-up rows take a 32nd of it at most, and 8 MiB; what the engine holds beside them
///                      comes on top
/// @par Cost  0.1 s, and two searches of at most 256 queries in 16384 rows
double measure_speed(const RankKind& kind, Metric metric, std::int64_t d, DType dtype,
                     std::int64_t memory_bytes);

/// Speeds of ranks by their kinds, 0, 1, ...: each takes the median of its kind, relative to the largest, in
/// hundredths; never less than one.
std::vector<double> weights_by_kind(const std::vector<double>& speeds,
                                    const std::vector<std::int64_t>& kinds);

}  // namespace mpishards::rank
