#include "rank/host_info.hpp"

#include <fcntl.h>
#include <hwloc.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string_view>
#include <utility>

#include "comm/environment.hpp"
#include "rank/cgroup.hpp"

namespace mpishards::rank {

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

/// What hwloc sees from inside this process' binding and control groups.
struct Binding {
  int cpus = 1;
  int cores = 1;
};

Binding count_bound(hwloc_topology_t topology, hwloc_cpuset_t bound) {
  Binding binding;
  binding.cpus = std::max(1, hwloc_bitmap_weight(bound));
  int cores = 0;
  const int all = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
  for (int i = 0; i < all; ++i) {
    const auto index = static_cast<unsigned>(i);
    const hwloc_obj_t core = hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, index);
    cores += hwloc_bitmap_intersects(core->cpuset, bound) != 0 ? 1 : 0;
  }
  binding.cores = cores > 0 ? cores : binding.cpus;  // some virtual machines show no cores
  return binding;
}

Binding read_binding() {
  Binding binding;
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return binding;
  hwloc_cpuset_t bound = hwloc_bitmap_alloc();
  if (hwloc_topology_load(topology) == 0) {
    if (hwloc_get_cpubind(topology, bound, HWLOC_CPUBIND_PROCESS) != 0)
      hwloc_bitmap_copy(bound, hwloc_topology_get_allowed_cpuset(topology));
    hwloc_bitmap_and(bound, bound, hwloc_topology_get_allowed_cpuset(topology));
    binding = count_bound(topology, bound);
  }
  hwloc_bitmap_free(bound);
  hwloc_topology_destroy(topology);
  return binding;
}

/// Reading the topology takes tens of milliseconds, and a binding is made at the start.
const Binding& binding() {
  static const Binding once = read_binding();
  return once;
}

std::int64_t meminfo_bytes(std::string_view key) {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key) && line.size() > key.size() && line[key.size()] == ':')
      return std::strtoll(line.c_str() + key.size() + 1, nullptr, 10) * 1024;
  return 0;
}

struct FileSystemRow {
  std::uint32_t magic;
  std::string_view name;
};

// The numbers of statfs(2) and of the vendors' clients.
constexpr FileSystemRow kFileSystems[] = {
    {0x0000ef53, "ext4"},  {0x58465342, "xfs"},    {0x9123683e, "btrfs"},    {0x2fc12fc1, "zfs"},
    {0x01021994, "tmpfs"}, {0x858458f6, "ramfs"},  {0x794c7630, "overlay"},  {0x73717368, "squashfs"},
    {0x00006969, "nfs"},   {0x0bd00bd0, "lustre"}, {0x47504653, "gpfs"},     {0x19830326, "beegfs"},
    {0x00c36400, "ceph"},  {0xaad7aaea, "panfs"},  {0x20030528, "orangefs"}, {0x5346414f, "afs"},
    {0x65735546, "fuse"},  {0x01021997, "9p"},     {0xff534d42, "cifs"},     {0xfe534d42, "smb2"},
    {0x00009fa0, "proc"},  {0x62656572, "sysfs"},  {0xf2f52010, "f2fs"},
};

std::optional<std::string> copies_warning(int mpi_size) {
  const comm::Launcher launcher = comm::detect_launcher();
  if (launcher.n_ranks > mpi_size)
    return launcher.name + " started " + std::to_string(launcher.n_ranks) + " processes, but MPI sees " +
           std::to_string(mpi_size) + ": these are " + std::to_string(launcher.n_ranks) +
           " copies of the same job; start them with the launcher of this MPI (srun --mpi=pmix, or its "
           "mpirun)";
  // The batch script of an allocation runs once; the other tasks start with srun.
  const char* tasks = std::getenv("SLURM_NTASKS");
  if (tasks != nullptr && std::atoi(tasks) > 1 && mpi_size == 1 && launcher.n_ranks == 1 &&
      launcher.name == "none")
    return "the Slurm job has " + std::string(tasks) +
           " tasks, but this is one process alone; start it with srun or mpirun";
  return std::nullopt;
}

std::optional<std::string> binding_warning(int threads_per_rank) {
  const bool one_core = threads_per_rank > 1 && bound_cores() == 1;
  if (!one_core && threads_per_rank <= bound_cpus()) return std::nullopt;
  const std::string threads = std::to_string(threads_per_rank);
  const std::int64_t host_cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (threads_per_rank > host_cpus)
    return "this rank has " + threads + " threads, but " + host_name() + " has " + std::to_string(host_cpus) +
           " CPUs; use --threads " + std::to_string(bound_cpus());
  return "this rank has " + threads + " threads, but is bound to " + std::to_string(bound_cores()) +
         (bound_cores() == 1 ? " core" : " cores") +
         "; start with mpirun --bind-to none (or --map-by slot:PE=" + threads +
         "), or srun --cpus-per-task=" + threads;
}

std::optional<std::string> oversubscription_warning(int threads_per_rank, int local_ranks) {
  const std::int64_t cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  const std::int64_t wanted = static_cast<std::int64_t>(threads_per_rank) * local_ranks;
  if (local_ranks < 2 || wanted <= cpus) return std::nullopt;
  const std::string fewer_ranks = "start at most " + std::to_string(cpus) + " ranks a host";
  const std::string fewer_threads =
      "use --threads " + std::to_string(std::max<std::int64_t>(1, cpus / local_ranks));
  return std::to_string(local_ranks) + " ranks on " + host_name() + " with " +
         std::to_string(threads_per_rank) + (threads_per_rank == 1 ? " thread" : " threads") +
         " each, but the host has " + std::to_string(cpus) + " CPUs; " +
         (threads_per_rank == 1 ? fewer_ranks : fewer_threads);
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::int64_t available_memory_bytes() {
  const std::int64_t host = meminfo_bytes("MemAvailable");
  const std::optional<CgroupMemory> group = cgroup_memory();
  return group ? std::min(host, group->available_bytes) : host;
}

std::int64_t total_memory_bytes() {
  return meminfo_bytes("MemTotal");
}

std::int64_t cgroup_memory_limit_bytes() {
  const std::optional<CgroupMemory> group = cgroup_memory();
  return group ? group->limit_bytes : -1;
}

int bound_cpus() {
  return binding().cpus;
}

int bound_cores() {
  return binding().cores;
}

std::int64_t peak_rss_bytes() {
  struct rusage usage {};
  if (::getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

std::string filesystem_type(const std::filesystem::path& path) {
  struct statfs facts {};
  if (::statfs(path.c_str(), &facts) != 0) return "unknown";
  const auto magic = static_cast<std::uint32_t>(facts.f_type);
  for (const FileSystemRow& row : kFileSystems)
    if (row.magic == magic) return std::string(row.name);
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "0x%x", magic);
  return text.data();
}

bool locks_work(const std::filesystem::path& folder) {
  std::string name = (folder / ".mpishards-lock-XXXXXX").string();
  const Descriptor first(::mkstemp(name.data()));
  if (first.get() < 0) return false;
  const Descriptor second(::open(name.c_str(), O_RDWR | O_CLOEXEC));
  ::unlink(name.c_str());
  if (second.get() < 0 || ::flock(first.get(), LOCK_EX | LOCK_NB) != 0) return false;
  return ::flock(second.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

std::vector<std::string> launcher_warnings(int mpi_size, int threads_per_rank, int local_ranks) {
  std::vector<std::string> warnings;
  for (const std::optional<std::string>& warning :
       std::array{copies_warning(mpi_size), binding_warning(threads_per_rank),
                  oversubscription_warning(threads_per_rank, local_ranks)})
    if (warning) warnings.push_back(*warning);
  return warnings;
}

}  // namespace mpishards::rank
