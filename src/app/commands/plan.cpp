#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "app/build_report.hpp"
#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/options.hpp"
#include "app/plan_output.hpp"
#include "app/progress.hpp"
#include "app/report.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "kernels/index.hpp"
#include "kernels/roof.hpp"
#include "rank/host_info.hpp"
#include "rank/job_plan.hpp"

namespace mpishards::app {

namespace {

constexpr double kProbeSeconds = 0.5;
constexpr std::int64_t kMaxRanks = 1 << 20;
constexpr double kCpuMemoryShare = 0.8;  // the rest is the system's and the page cache's

/// What one rank has, and where the numbers come from.
struct Device {
  std::string name;
  std::string_view engine;  // of the index registry: what a search on this device needs
  std::int64_t memory_bytes = 0;
  std::string memory_origin;
  double flops_per_second = 0;
  std::string flops_origin;
  std::string note;
};

// NVIDIA H200: memory as the driver reports it, dense fp16 matrix products at the rate that large products
// reach.
constexpr std::int64_t kH200Bytes = std::int64_t{139} << 30;
constexpr double kH200Flops = 790e12;

Device h200() {
  return {
      "h200",
      "cuda",
      kH200Bytes,
      "data sheet limit of one H200",
      kH200Flops,
      "fp16 matrix-product limit of one H200; a plan, not a measurement",
      "the CUDA engine has not yet run on a device: the times are what the device's limits allow, not what "
      "this program does"};
}

Device cpu(int threads, bool measure) {
  Device device{"cpu", "cpu", 0, "", 0, "", ""};
  device.memory_bytes =
      static_cast<std::int64_t>(kCpuMemoryShare * static_cast<double>(rank::available_memory_bytes()));
  device.memory_origin = "80 % of what this host has left";
  if (measure) device.flops_per_second = kernels::measure_product_flops(threads, kProbeSeconds);
  device.flops_origin = "matrix products measured here with " + std::to_string(threads) + " thread(s)";
  return device;
}

struct Request {
  rank::JobShape shape;
  rank::JobRoofs roofs;
  Device device;
  std::string index;  // that is searched; empty: the base as it is
  bool memory_given = false;
  bool ranks_given = false;
  bool json = false;
  bool sbatch = false;
};

/// "300GFLOP/s", "5GB/s", "2.5e9": decimal prefixes; a unit after the prefix is allowed and ignored.
double parse_rate(const std::string& text, std::string_view unit) {
  constexpr std::array<std::pair<char, double>, 6> kPrefixes = {
      {{'k', 1e3}, {'K', 1e3}, {'M', 1e6}, {'G', 1e9}, {'T', 1e12}, {'P', 1e15}}};
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  std::string_view rest(end);
  for (const auto& [prefix, factor] : kPrefixes)
    if (rest.starts_with(prefix)) {
      value *= factor;
      rest.remove_prefix(1);
      break;
    }
  const bool known_unit =
      rest.empty() || rest == unit || rest == std::string(unit) + "/s" || rest == std::string(unit) + "S";
  if (end == text.c_str() || !known_unit || !(value > 0))
    throw Error(ErrorKind::usage,
                "'" + text + "' is no rate; write for example 300G" + std::string(unit) + "/s");
  return value;
}

std::string text_or(const cxxopts::ParseResult& options, const std::string& name,
                    const std::string& otherwise) {
  return options.count(name) > 0 ? options[name].as<std::string>() : otherwise;
}

std::int64_t required_count(const cxxopts::ParseResult& options, const std::string& name,
                            const std::string& example) {
  const std::string dashes = name.size() == 1 ? "-" : "--";
  if (options.count(name) == 0)
    throw Error(ErrorKind::usage,
                dashes + name + " is missing; give for instance " + dashes + name + " " + example);
  const std::int64_t value = parse_count(options[name].as<std::string>());
  if (value < 1)
    throw Error(ErrorKind::usage, dashes + name + " = " + std::to_string(value) + ", expected at least 1");
  return value;
}

/// "auto" is the CPU: what this build can run.
Device device_for(const cxxopts::ParseResult& options, int threads) {
  const std::string name = text_or(options, "device", "auto");
  Device device;
  if (name == "h200") {
    device = h200();
  } else if (name == "cpu" || name == "auto") {
    device = cpu(threads, options.count("flops") == 0);
  } else {
    throw Error(ErrorKind::usage, "unknown device '" + name + "'; known: auto, cpu, h200");
  }
  if (options.count("memory") > 0) {
    const std::int64_t bytes = rank::parse_bytes(options["memory"].as<std::string>());
    if (name == "h200" && bytes > kH200Bytes)
      throw Error(ErrorKind::usage, "--memory " + options["memory"].as<std::string>() +
                                        " is more than one H200 has, " + rank::format_bytes(kH200Bytes) +
                                        "; give at most that, or --device cpu");
    device.memory_bytes = bytes;
    device.memory_origin = "--memory";
  }
  if (options.count("flops") > 0) {
    device.flops_per_second = parse_rate(options["flops"].as<std::string>(), "FLOP");
    device.flops_origin = "--flops";
  }
  return device;
}

DType vector_dtype(const std::string& name) {
  const DType dtype = dtype_from_string(name);
  if (dtype == DType::i32 || dtype == DType::i64)
    throw Error(ErrorKind::usage,
                "--dtype " + name + " is no vector type; expected f32, f16, bf16, f64, u8 or i8");
  return dtype;
}

bool has_engine(std::string_view engine) {
  return std::ranges::any_of(kernels::index_registry(),
                             [&](const kernels::IndexRow& row) { return row.engine == engine; });
}

/// A job script is only printed for what this build carries out, and it is text of its own.
void refuse_script(const Request& request) {
  if (request.json)
    throw Error(ErrorKind::usage, "--json and --sbatch print different documents; give one of them");
  if (!has_engine(request.device.engine))
    throw Error(ErrorKind::unavailable, "--sbatch --device " + request.device.name + ": this build has no " +
                                            std::string(request.device.engine) +
                                            " engine, the job could not run; print the script for --device "
                                            "cpu");
}

std::int64_t wanted_rerank(const cxxopts::ParseResult& options) {
  const std::int64_t rerank = parse_count(text_or(options, "rerank", "10"));
  if (rerank < 1) throw Error(ErrorKind::usage, "--rerank must be at least 1");
  return rerank;
}

/// The search looks into some lists of an index, or asks FAISS.
void read_index_options(const cxxopts::ParseResult& options, Request& request) {
  if (options.count("index") == 0) {
    if (options.count("nprobe") > 0)
      throw Error(ErrorKind::usage, "--nprobe is for an index of lists; name it with --index ivf1024");
    return;
  }
  request.index = options["index"].as<std::string>();
  const rank::IndexSpec spec = rank::parse_index_spec(request.index);
  request.shape.has_ids = true;
  if (spec.is_faiss()) {
    request.shape.faiss = rank::planned_faiss(spec.factory, request.shape);
    request.shape.rerank = wanted_rerank(options);
    request.shape.has_ids = false;  // they are read with the candidates
  }
  if (!spec.has_lists()) return;
  request.shape.lists = spec.nlist;
  if (!spec.codec.empty()) {
    request.shape.codec = rank::parse_codec(spec.codec);
    request.shape.rerank = wanted_rerank(options);
    request.shape.has_ids = false;  // they are read with the candidates
  }
  if (options.count("nprobe") > 0)
    request.shape.nprobe = std::min(required_count(options, "nprobe", "16"), spec.nlist);
}

Request read_request(const cxxopts::ParseResult& options) {
  Request request;
  rank::JobShape& shape = request.shape;
  shape.rows = required_count(options, "rows", "30M");
  shape.d = required_count(options, "dim", "1024");
  shape.dtype = vector_dtype(text_or(options, "dtype", "f32"));
  shape.nq = required_count(options, "queries", "10k");
  shape.k = parse_count(text_or(options, "k", "10"));
  if (shape.k < 1) throw Error(ErrorKind::usage, "-k = " + std::to_string(shape.k) + ", expected at least 1");
  shape.threads = narrow<int>(options.count("threads") > 0 ? required_count(options, "threads", "8")
                                                           : std::max(1, rank::bound_cores()));
  request.device = device_for(options, shape.threads);
  // Rows on a device are not packed.
  shape.isa = request.device.engine == "cuda" ? "portable" : text_or(options, "isa", "auto");
  shape.memory_bytes = request.device.memory_bytes;
  request.memory_given = options.count("memory") > 0;
  request.roofs.flops_per_second = request.device.flops_per_second;
  if (options.count("read-rate") > 0)
    request.roofs.read_bytes_per_second = parse_rate(options["read-rate"].as<std::string>(), "B");
  request.ranks_given = options.count("ranks") > 0;
  if (request.ranks_given) shape.n_ranks = narrow<int>(required_count(options, "ranks", "4"));
  read_index_options(options, request);
  request.json = options.count("json") > 0;
  request.sbatch = options.count("sbatch") > 0;
  if (request.sbatch) refuse_script(request);
  return request;
}

bool is_resident(rank::JobShape shape, const rank::JobRoofs& roofs, std::int64_t n_ranks) {
  shape.n_ranks = narrow<int>(n_ranks);
  try {
    return rank::plan_job(shape, roofs).groups == 1;
  } catch (const Error&) {
    return false;
  }
}

/// The fewest ranks whose memories together hold the base; 0 if no number of ranks does.
std::int64_t fewest_resident_ranks(const rank::JobShape& shape, const rank::JobRoofs& roofs) {
  std::int64_t enough = 1;
  while (!is_resident(shape, roofs, enough)) {
    if (enough >= kMaxRanks || enough >= shape.rows) return 0;
    enough *= 2;
  }
  std::int64_t too_few = enough / 2;
  while (enough - too_few > 1) {
    const std::int64_t middle = too_few + (enough - too_few) / 2;
    (is_resident(shape, roofs, middle) ? enough : too_few) = middle;
  }
  return enough;
}

/// Long times in the two largest of days, hours, minutes and seconds: "1 h 25 min".
std::string human_seconds(double seconds) {
  struct Unit {
    double seconds;
    const char* name;
  };
  constexpr std::array<Unit, 4> kUnits = {{{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}}};
  for (std::size_t i = 0; i + 1 < kUnits.size(); ++i) {
    const Unit& large = kUnits[i];
    const Unit& small = kUnits[i + 1];
    const double smalls = std::round(seconds / small.seconds);
    const double per_large = large.seconds / small.seconds;
    if (smalls < (i + 2 == kUnits.size() ? 2 * per_large : per_large)) continue;
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.0f %s %.0f %s", std::floor(smalls / per_large), large.name,
                  std::fmod(smalls, per_large), small.name);
    return text.data();
  }
  return format_seconds(seconds);
}

std::string duration_or_unknown(double seconds, const std::string& how_to_know) {
  return seconds > 0 ? human_seconds(seconds) : "unknown (" + how_to_know + ")";
}

/// What the index takes that the search is planned for; nothing where the base is searched as it is.
std::optional<rank::PreparedBuild> plan_index(const Request& request) {
  if (request.index.empty()) return std::nullopt;
  rank::SearchJobConfig config;
  config.index = request.index;
  config.build.emplace();
  rank::PreparedBuild build{request.shape, rank::plan_build(config, request.shape), {}};
  build.warnings = rank::build_warnings(build.plan);
  return build;
}

double build_seconds(const Request& request, const rank::BuildPlan& build) {
  if (request.roofs.flops_per_second <= 0) return 0;
  return (build.training_flops + build.assignment_flops) / request.shape.n_ranks /
         request.roofs.flops_per_second;
}

void print_build(const Request& request, const rank::PreparedBuild& build) {
  std::printf("\nbuilding that index: %s", rank::to_string(build.plan, build.shape).c_str());
  if (build.plan.spec.is_faiss())
    std::printf(
        "training and indexing: unknown, FAISS does both; the base is read twice, the index written and read "
        "once\n");
  else
    std::printf(
        "training and assignment: %s in all: %s; the base is read twice, the index written and read once\n",
        with_prefix(build.plan.training_flops + build.plan.assignment_flops, "FLOP").c_str(),
        duration_or_unknown(build_seconds(request, build.plan), "give --flops").c_str());
  for (const std::string& warning : build.warnings) std::printf("warning: %s\n", warning.c_str());
}

void print_text(const Request& request, const rank::JobPlan& plan) {
  const rank::JobShape& shape = request.shape;
  std::fputs(rank::to_string(plan, shape).c_str(), stdout);
  std::printf("ranks: %d%s, %s each (%s)\n", shape.n_ranks,
              request.ranks_given ? "" : " (the fewest that hold the base in memory)",
              rank::format_bytes(shape.memory_bytes).c_str(), request.device.memory_origin.c_str());
  std::printf("search: %s in all, at %s a rank (%s): %s\n", with_prefix(plan.flops, "FLOP").c_str(),
              with_prefix(request.roofs.flops_per_second, "FLOP/s").c_str(),
              request.device.flops_origin.c_str(),
              duration_or_unknown(plan.search_seconds, "give --flops").c_str());
  std::printf("read: %s\n", duration_or_unknown(plan.read_seconds, "give --read-rate").c_str());
  std::printf("disk while running: %s, result: %s\n", rank::format_bytes(plan.scratch_bytes).c_str(),
              rank::format_bytes(plan.result_bytes).c_str());
  if (!request.device.note.empty()) std::printf("note: %s\n", request.device.note.c_str());
  if (const auto build = plan_index(request)) print_build(request, *build);
}

void print_json(const Request& request, const rank::JobPlan& plan) {
  nlohmann::json json = plan_json(plan, request.shape);
  json["device"] = {{"name", request.device.name},
                    {"memory_origin", request.device.memory_origin},
                    {"flops_per_second", request.roofs.flops_per_second},
                    {"flops_origin", request.device.flops_origin},
                    {"read_bytes_per_second", request.roofs.read_bytes_per_second},
                    {"note", request.device.note}};
  if (const auto build = plan_index(request)) {
    json["build"] = build_plan_json(*build);
    json["build"]["seconds"] = build_seconds(request, build->plan);
  }
  std::printf("%s\n", json.dump(2).c_str());
}

/// Twice the expected time and ten minutes more, in whole minutes: a plan is no promise, and a checkpoint
/// saves the rest.
std::string time_limit(const rank::JobPlan& plan) {
  const double seconds = std::clamp(2 * (plan.search_seconds + plan.read_seconds) + 600, 600.0, 7 * 86400.0);
  const int minutes = static_cast<int>(seconds / 60) + 1;
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%02d:%02d:00", minutes / 60, minutes % 60);
  return text.data();
}

constexpr std::int64_t kMebibyte = 1 << 20;
constexpr std::int64_t kProgramBytes = 1024 * kMebibyte;  // program, MPI and HDF5, beside what is planned

/// What the job asks of a node: the plan with room for what it does not count, never more than --memory.
std::int64_t node_bytes(const Request& request, const rank::JobPlan& plan) {
  const std::int64_t with_room = plan.memory_bytes + plan.memory_bytes / 4 + kProgramBytes;
  return request.memory_given ? std::min(with_room, request.shape.memory_bytes) : with_room;
}

/// What the search may plan with: on a node that gives no more, the program itself needs some of it.
std::int64_t search_bytes(std::int64_t bytes_of_node) {
  return bytes_of_node - std::min(kProgramBytes, bytes_of_node / 8);
}

/// One task a node, like slurm/search.sbatch, which this script follows.
void print_sbatch(const Request& request, const rank::JobPlan& plan) {
  const rank::JobShape& shape = request.shape;
  const std::int64_t bytes_of_node = node_bytes(request, plan);
  std::printf(
      "#!/usr/bin/env bash\n"
      "# %lld x %lld %s, %lld queries, k = %lld, on %d rank(s); printed by mpishards plan --sbatch.\n"
      "#   sbatch THIS_FILE --base emb.h5:/train --queries q.h5:/test -o result.h5\n"
      "#SBATCH --job-name=mpishards\n"
      "#SBATCH --nodes=%d\n"
      "#SBATCH --ntasks-per-node=1\n"
      "#SBATCH --cpus-per-task=%d\n"
      "#SBATCH --mem=%lldM\n",
      static_cast<long long>(shape.rows), static_cast<long long>(shape.d),
      std::string(to_string(shape.dtype)).c_str(), static_cast<long long>(shape.nq),
      static_cast<long long>(shape.k), shape.n_ranks, shape.n_ranks, shape.threads,
      static_cast<long long>(bytes_of_node / kMebibyte));
  const bool has_gpu = request.device.engine == "cuda";
  if (has_gpu) std::printf("#SBATCH --gpus-per-task=1\n");
  std::printf(
      "#SBATCH --time=%s\n"
      "#SBATCH --signal=B:USR1@120\n"
      "#SBATCH --requeue\n"
      "#SBATCH --open-mode=append\n"
      "#SBATCH --output=mpishards-%%j.log\n"
      "set -euo pipefail\n"
      "\n"
      "# The batch shell gets the early signal and passes it on; the tasks write a checkpoint and exit with "
      "75.\n"
      "srun --mpi=\"${MPISHARDS_SRUN_MPI:-pmix}\" --cpus-per-task=%d --kill-on-bad-exit=0 --wait=30 \\\n"
      "  \"${MPISHARDS_PROGRAM:-mpishards}\" search -k %lld --engine %s --threads %d --memory %lldMiB \"$@\" "
      "&\n"
      "step=$!\n"
      "trap 'signalled=yes; kill -USR1 \"$step\"' USR1 TERM\n"
      "signalled=yes\n"
      "while [ -n \"$signalled\" ]; do  # wait returns early when the trap ran\n"
      "  signalled=\n"
      "  code=0\n"
      "  wait \"$step\" || code=$?\n"
      "done\n"
      "if [ \"$code\" -eq 75 ]; then\n"
      "  if [ \"${SLURM_RESTART_COUNT:-0}\" -lt \"${MPISHARDS_MAX_REQUEUES:-100}\" ]; then\n"
      "    scontrol requeue \"$SLURM_JOB_ID\"\n"
      "  else\n"
      "    echo \"mpishards job: ${SLURM_RESTART_COUNT:-0} restarts and not done; submit again to continue\" "
      ">&2\n"
      "  fi\n"
      "fi\n"
      "exit \"$code\"\n",
      time_limit(plan).c_str(), shape.threads, static_cast<long long>(shape.k), has_gpu ? "cuda" : "cpu",
      shape.threads, static_cast<long long>(search_bytes(bytes_of_node) / kMebibyte));
}

Cli plan_cli() {
  Cli cli(
      "plan", "--rows N --dim N --queries N [options]",
      "Says what a search will need before it is submitted: memory and number of ranks, time, disk space.\n"
      "Without --ranks: the fewest that hold the base in memory. --device auto is the CPU, which is "
      "measured\n"
      "for half a second unless --flops is given; the figures of h200 are the device's limits, not "
      "measurements.",
      "mpishards plan --rows 30M --dim 1024 --dtype f32 --queries 10k -k 10 --device h200\n"
      "  mpishards plan --rows 30M --dim 1024 --queries 10k --memory 200GiB --flops 2TFLOP/s --sbatch > "
      "job.sbatch");
  const auto text = [] { return cxxopts::value<std::string>(); };
  cli.add()("rows", "rows of the base", text(), "N")("dim", "dimension", text(), "N")(
      "dtype", "f32, f16, bf16, f64, u8, i8 (default: f32)", text(), "NAME")(
      "queries", "number of queries", text(), "N")("k", "neighbors per query (default: 10)", text(), "N")(
      "ranks", "number of ranks", text(), "N")("threads", "threads per rank (default: cores here)", text(),
                                               "N")(
      "isa", "CPU kernel family of the ranks (default: the best one here)", text(), "NAME")(
      "device", "auto, cpu, h200", text(), "NAME")("memory", "memory per rank", text(), "SIZE")(
      "flops", "matrix-product rate of one rank", text(), "RATE")("read-rate", "file system rate of one rank",
                                                                  text(), "RATE")(
      "index", "of the base, to be built: ivf1024 (default: none, every row is looked at)", text(), "SPEC")(
      "nprobe", "lists of it that a query looks into (default: a 32nd)", text(), "N")(
      "rerank", "candidates that its codes name for each neighbor (default: 10)", text(), "R")(
      "sbatch", "print a Slurm job script of this size")("json", "one JSON document");
  return cli;
}

}  // namespace

int run_plan(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli = plan_cli();
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;
  Request request = read_request(*options);
  if (!request.ranks_given) {
    const std::int64_t ranks = fewest_resident_ranks(request.shape, request.roofs);
    request.shape.n_ranks = narrow<int>(std::max<std::int64_t>(ranks, 1));
  }
  const rank::JobPlan plan = rank::plan_job(request.shape, request.roofs);
  if (request.sbatch)
    print_sbatch(request, plan);
  else if (request.json)
    print_json(request, plan);
  else
    print_text(request, plan);
  return 0;
}

}  // namespace mpishards::app
