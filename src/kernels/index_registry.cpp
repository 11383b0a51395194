#include <algorithm>
#include <array>
#include <string>

#include "core/error.hpp"
#include "kernels/cpu/flat.hpp"
#include "kernels/cpu/ivf.hpp"
#if defined(MPISHARDS_HAVE_CUDA)
#include "kernels/cuda/flat.hpp"
#endif
#include "kernels/index.hpp"

namespace mpishards::kernels {
namespace {

constexpr std::array kIndexes = {
    IndexRow{"flat", "cpu", cpu::make_flat, "exact; float32 screen with a proof, re-ranked in double"},
    IndexRow{"ivf", "cpu", cpu::make_ivf, "inverted file: exact inside the probed lists, by the same proof"},
#if defined(MPISHARDS_HAVE_CUDA)
    IndexRow{"flat", "cuda", cuda::make_flat,
             "exact; binary16 screen on tensor cores with a proof, re-ranked in double"},
#endif
};

constexpr std::array<std::string_view, 2> kEngines = {"cpu", "cuda"};

template <class Match>
bool any_row(Match match) {
  return std::ranges::any_of(kIndexes, match);
}

}  // namespace

std::span<const IndexRow> index_registry() {
  return kIndexes;
}

std::unique_ptr<Index> make_index(std::string_view type, std::string_view engine, Metric metric,
                                  const EngineOptions& options) {
  const std::string resolved = resolve_engine(engine);
  if (!any_row([&](const IndexRow& row) { return row.type == type; })) {
    std::string known;
    for (const IndexRow& row : kIndexes) known.append(known.empty() ? "" : ", ").append(row.type);
    throw Error(ErrorKind::usage, "unknown index '" + std::string(type) + "'; known: " + known);
  }
  for (const IndexRow& row : kIndexes)
    if (row.type == type && row.engine == resolved) return row.make(metric, options);
  throw Error(ErrorKind::unavailable, "this build has no " + resolved + " engine for index '" +
                                          std::string(type) + "' yet; use --engine cpu");
}

std::string resolve_engine(std::string_view engine) {
  if (engine == "auto") return "cpu";
  if (std::ranges::find(kEngines, engine) == kEngines.end())
    throw Error(ErrorKind::usage, "unknown engine '" + std::string(engine) + "'; known: auto, cpu, cuda");
  return std::string(engine);
}

}  // namespace mpishards::kernels
