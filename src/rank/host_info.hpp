#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace mpishards::rank {

/// Facts about the host and the process that this rank is. None of them communicates; a fact that the system
/// does not tell is 0, -1 or "unknown", never an exception.

std::string host_name();

/// "AMD EPYC 9654 96-Core Processor", or "unknown".
std::string cpu_model();

/// Bytes that this process may still allocate: what the kernel calls available, and no more than the tightest
/// memory limit of its control groups (v1 or v2) leaves.
std::int64_t available_memory_bytes();

/// Bytes of memory in the host.
std::int64_t total_memory_bytes();

/// The tightest memory limit of this process' control groups, or -1 where there is none.
std::int64_t cgroup_memory_limit_bytes();

/// Processing units that this process may run on.
int bound_cpus();

/// Physical cores behind bound_cpus(): two hardware threads of one core count once.
int bound_cores();

/// Largest resident set of this process so far.
std::int64_t peak_rss_bytes();

/// "ext4", "xfs", "tmpfs", "nfs", "lustre", "gpfs", "overlay", ... of the file system that holds `path`; a
/// magic number in hexadecimal where it has no name here; "unknown" where the path does not exist.
std::string filesystem_type(const std::filesystem::path& path);

/// Whether advisory locks (flock) work in a folder: made, and seen by a second open file. Leaves no file
/// behind.
bool locks_work(const std::filesystem::path& folder);

/// Sentences about a start that will not do what its user meant: N copies of a one-rank job, ranks bound to
/// fewer cores than they have threads, more threads on this host than cores.
/// @param local_ranks  ranks of the job on this host
std::vector<std::string> launcher_warnings(int mpi_size, int threads_per_rank, int local_ranks);

}  // namespace mpishards::rank
