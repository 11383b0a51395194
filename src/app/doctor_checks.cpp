#include "app/doctor_checks.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

#include "comm/environment.hpp"
#include "core/version.hpp"
#include "io/hdf5_info.hpp"
#include "kernels/blas_info.hpp"
#include "kernels/devices.hpp"
#include "kernels/index.hpp"
#include "rank/host_info.hpp"
#include "rank/job_plan.hpp"

namespace mpishards::app {

namespace {

namespace fs = std::filesystem;
using rank::format_bytes;

constexpr std::int64_t kGibibyte = std::int64_t{1} << 30;

std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : separator) + part;
  return text;
}

Check check_program() {
  return {"program", Level::ok,
          std::string(version()) + " (" + std::string(revision()) + ", " + std::string(build_type()) + ")",
          "", true};
}

Check check_mpi_library() {
  return {"MPI", Level::ok,
          comm::Environment::library_version() + "; threads: " + comm::Environment::thread_level() +
              "; CUDA-aware: " + comm::Environment::cuda_awareness(),
          "", true};
}

Check check_launcher(const JobFacts& job) {
  const comm::Launcher launcher = comm::detect_launcher();
  Check check{"launcher", Level::ok,
              launcher.name + ", " + std::to_string(job.n_ranks) + (job.n_ranks == 1 ? " rank" : " ranks"),
              "", true};
  const std::vector<std::string> warnings =
      rank::launcher_warnings(job.n_ranks, job.threads, job.local_ranks);
  if (!warnings.empty()) check.level = launcher.n_ranks > job.n_ranks ? Level::fail : Level::warn;
  check.remedy = joined(warnings, "; ");
  return check;
}

Check check_host(const JobFacts& job) {
  return {"host", Level::ok,
          rank::host_name() + ", " + std::to_string(job.local_ranks) +
              (job.local_ranks == 1 ? " rank" : " ranks"),
          "", false};
}

Check check_hdf5() {
  const io::Hdf5Info info = io::hdf5_info();
  Check check{"HDF5", Level::ok,
              info.version + (info.parallel ? ", for MPI" : ", serial") +
                  (info.thread_safe ? ", thread safe" : "") + "; filters: " + joined(info.filters, " "),
              "", true};
  if (std::ranges::find(info.filters, "gzip") == info.filters.end()) {
    check.level = Level::warn;
    check.remedy = "files compressed with gzip can not be read; install an HDF5 with zlib";
  }
  return check;
}

/// The instructions that decide between kernels, of those in /proc/cpuinfo.
std::string cpu_features() {
  static const std::set<std::string> kInteresting = {"avx2",     "fma",         "f16c",        "avx512f",
                                                     "avx512bw", "avx512_vnni", "avx512_bf16", "amx_tile",
                                                     "amx_bf16", "amx_int8",    "asimd",       "sve"};
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    std::vector<std::string> found;
    for (std::string word; words >> word;)
      if (kInteresting.contains(word)) found.push_back(word);
    return joined(found, " ");
  }
  return "";
}

Check check_cpu() {
  const std::string features = cpu_features();
  return {"CPU", Level::ok, rank::cpu_model() + (features.empty() ? "" : ": " + features), "", true};
}

Check check_kernels() {
  const std::vector<std::string> names = kernels::isa_names();
  Check check{"kernels", Level::ok, joined(names, " "), "", true};
  if (names.empty()) {
    check.level = Level::fail;
    check.remedy = "this build has no kernels for this CPU; build it on this machine";
  } else {
    check.value = names.front() + " (of " + check.value + ")";
  }
  return check;
}

Check check_blas() {
  return {"BLAS", Level::ok, kernels::blas_description(), "", true};
}

Check check_gpus() {
  std::string why_none;
  std::vector<std::string> found;
  for (const kernels::GpuDevice& gpu : kernels::list_gpus(why_none))
    found.push_back(gpu.name + " (" + format_bytes(gpu.memory_bytes) + ", " + gpu.compute_capability + ")");
  return {"GPUs", Level::ok, found.empty() ? "none: " + why_none : joined(found, ", "), "", false};
}

Check check_engine() {
  std::vector<std::string> engines;
  for (const kernels::IndexRow& row : kernels::index_registry())
    engines.push_back(std::string(row.type) + "/" + std::string(row.engine));
  return {"engines", Level::ok, joined(engines, " ") + "; auto is " + kernels::resolve_engine("auto"), "",
          true};
}

/// Every merge goes through MPI in this version.
Check check_nccl() {
  return {"NCCL", Level::ok, "not in this build", "", true};
}

Check check_memory() {
  const std::int64_t limit = rank::cgroup_memory_limit_bytes();
  const std::int64_t available = rank::available_memory_bytes();
  Check check{"memory", Level::ok,
              format_bytes(available) + " available of " + format_bytes(rank::total_memory_bytes()) +
                  (limit >= 0 ? ", limited to " + format_bytes(limit) : ", no limit"),
              "", false};
  if (available < kGibibyte) {
    check.level = Level::warn;
    check.remedy = "little memory is left: end other programs, or ask for more (sbatch --mem)";
  }
  return check;
}

Check check_cores(const JobFacts& job) {
  const int cores = rank::bound_cores();
  const int cpus = rank::bound_cpus();
  Check check{"cores", Level::ok,
              "bound to " + std::to_string(cores) + (cores == 1 ? " core" : " cores") + " (" +
                  std::to_string(cpus) + (cpus == 1 ? " CPU" : " CPUs") + "), " +
                  std::to_string(job.threads) + (job.threads == 1 ? " thread" : " threads") + " a rank",
              "", true};
  if (job.threads > cpus) {
    check.level = Level::warn;
    check.remedy =
        "more threads than CPUs: use --threads " + std::to_string(cpus) + ", or bind to more cores";
  }
  return check;
}

Check check_folder(const fs::path& folder) {
  const std::string type = rank::filesystem_type(folder);
  Check check{"folder", Level::ok, folder.string() + " on " + type, "", true};
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    check.level = Level::fail;
    check.value = folder.string() + " is no folder on this rank";
    check.remedy = "name a folder that every host sees, with --path";
  } else if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    check.level = Level::fail;
    check.remedy = "not writable: results can not be made here; choose another folder or change its mode";
  }
  return check;
}

Check check_locks(const fs::path& folder) {
  if (rank::locks_work(folder)) return {"locks", Level::ok, "flock works", "", true};
  return {
      "locks", Level::warn, "flock does not work",
      "two jobs with the same output would not see each other; write to another file system or mount this "
      "one with flock",
      true};
}

Check check_space(const fs::path& folder) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (error) return {"space", Level::warn, "unknown: " + error.message(), "", false};
  const auto available = static_cast<std::int64_t>(space.available);
  Check check{"space", Level::ok, format_bytes(available) + " free", "", false};
  if (available < kGibibyte) {
    check.level = Level::warn;
    check.remedy = "results take 12 bytes for each query and neighbor; make room or choose another folder";
  }
  return check;
}

std::string limit_text(rlim_t limit, bool is_bytes) {
  if (limit == RLIM_INFINITY) return "unlimited";
  const auto value = static_cast<std::int64_t>(limit);
  return is_bytes ? format_bytes(value) : std::to_string(value);
}

Check check_limits() {
  constexpr rlim_t kFewFiles = 1024;
  rlimit files{};
  rlimit core{};
  rlimit locked{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  ::getrlimit(RLIMIT_CORE, &core);
  ::getrlimit(RLIMIT_MEMLOCK, &locked);
  Check check{"limits", Level::ok,
              "open files " + limit_text(files.rlim_cur, false) + ", core files " +
                  limit_text(core.rlim_cur, true) + ", locked memory " + limit_text(locked.rlim_cur, true),
              "", true};
  if (files.rlim_cur < kFewFiles) {
    check.level = Level::warn;
    check.remedy = "few open files: ulimit -n 4096";
  }
  return check;
}

Check check_shared_memory(int local_ranks) {
  constexpr std::int64_t kBytesPerRank = std::int64_t{32} << 20;
  std::error_code error;
  const fs::space_info space = fs::space("/dev/shm", error);
  if (error) return {"shared memory", Level::ok, "no /dev/shm", "", true};
  const auto available = static_cast<std::int64_t>(space.available);
  Check check{"shared memory", Level::ok, format_bytes(available) + " free in /dev/shm", "", false};
  if (local_ranks > 1 && available < kBytesPerRank * local_ranks) {
    check.level = Level::warn;
    check.remedy = "MPI may fail between ranks of a host; in a container, start it with --shm-size=1g";
  }
  return check;
}

JobCheck compare_one(const std::vector<std::vector<Check>>& by_rank, std::size_t index) {
  JobCheck result;
  for (std::size_t r = 0; r < by_rank.size(); ++r) {
    const Check& check = by_rank[r][index];
    result.name = check.name;
    result.level = std::max(result.level, check.level);
    const auto known = std::ranges::find_if(result.answers, [&](const JobCheck::Answer& answer) {
      return answer.check.value == check.value && answer.check.remedy == check.remedy;
    });
    if (known == result.answers.end())
      result.answers.push_back({check, {static_cast<int>(r)}});
    else
      known->ranks.push_back(static_cast<int>(r));
  }
  if (result.answers.size() > 1 && result.answers.front().check.same_everywhere)
    result.level = std::max(result.level, Level::warn);
  return result;
}

}  // namespace

std::string_view to_string(Level level) {
  switch (level) {
    case Level::ok:
      return "OK";
    case Level::warn:
      return "WARN";
    case Level::fail:
      break;
  }
  return "FAIL";
}

std::vector<Check> run_checks(const JobFacts& job) {
  return {check_program(),
          check_mpi_library(),
          check_launcher(job),
          check_host(job),
          check_hdf5(),
          check_cpu(),
          check_kernels(),
          check_blas(),
          check_gpus(),
          check_engine(),
          check_nccl(),
          check_memory(),
          check_cores(job),
          check_folder(job.folder),
          check_locks(job.folder),
          check_space(job.folder),
          check_limits(),
          check_shared_memory(job.local_ranks)};
}

std::vector<JobCheck> compare_checks(const std::vector<std::vector<Check>>& by_rank) {
  std::vector<JobCheck> checks;
  for (std::size_t i = 0; i < by_rank.front().size(); ++i) checks.push_back(compare_one(by_rank, i));
  return checks;
}

Level worst_level(const std::vector<JobCheck>& checks) {
  Level worst = Level::ok;
  for (const JobCheck& check : checks) worst = std::max(worst, check.level);
  return worst;
}

std::string format_ranks(const std::vector<int>& ranks) {
  std::string text;
  for (std::size_t i = 0; i < ranks.size();) {
    std::size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (!text.empty()) text += ", ";
    text += std::to_string(ranks[i]);
    if (last > i) text += "-" + std::to_string(ranks[last]);
    i = last + 1;
  }
  return text;
}

std::string doctor_text(const std::vector<JobCheck>& checks, int n_ranks) {
  constexpr std::size_t kNameWidth = 14;
  std::string text;
  for (const JobCheck& check : checks) {
    std::string head(to_string(check.level));
    head.resize(5, ' ');
    head += check.name;
    head.resize(std::max(head.size() + 1, 5 + kNameWidth), ' ');
    for (const JobCheck::Answer& answer : check.answers) {
      text += head;
      head.assign(5 + kNameWidth, ' ');
      if (check.answers.size() > 1) text += "rank " + format_ranks(answer.ranks) + ": ";
      text += answer.check.value + "\n";
      if (!answer.check.remedy.empty()) text += head + "-> " + answer.check.remedy + "\n";
    }
  }
  return text + std::string(to_string(worst_level(checks))) + " on " + std::to_string(n_ranks) +
         (n_ranks == 1 ? " rank\n" : " ranks\n");
}

nlohmann::json doctor_json(const std::vector<JobCheck>& checks, int n_ranks) {
  nlohmann::json list = nlohmann::json::array();
  for (const JobCheck& check : checks) {
    nlohmann::json answers = nlohmann::json::array();
    for (const JobCheck::Answer& answer : check.answers)
      answers.push_back(
          {{"ranks", answer.ranks}, {"value", answer.check.value}, {"remedy", answer.check.remedy}});
    list.push_back({{"name", check.name}, {"level", to_string(check.level)}, {"answers", answers}});
  }
  return {{"schema", "mpishards.doctor/1"},
          {"level", to_string(worst_level(checks))},
          {"n_ranks", n_ranks},
          {"checks", list}};
}

std::string serialize(const std::vector<Check>& checks) {
  nlohmann::json json = nlohmann::json::array();
  for (const Check& check : checks)
    json.push_back(
        {check.name, static_cast<int>(check.level), check.value, check.remedy, check.same_everywhere});
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<Check> deserialize_checks(const std::string& text) {
  std::vector<Check> checks;
  for (const nlohmann::json& row : nlohmann::json::parse(text))
    checks.push_back({row[0], static_cast<Level>(row[1].get<int>()), row[2], row[3], row[4]});
  return checks;
}

}  // namespace mpishards::app
