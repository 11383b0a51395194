#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace mpishards::rank {

/// What a process' control groups let it have, in bytes.
struct CgroupMemory {
  std::int64_t limit_bytes = 0;  // the tightest limit
  std::int64_t available_bytes =
      0;  // what is left under the group that leaves least; page cache counts as free
};

/// Walks from the process' memory control group (v1 or v2) up to the root of its mount.
/// @return empty where no group has a limit
std::optional<CgroupMemory> cgroup_memory(const std::filesystem::path& cgroup = "/proc/self/cgroup",
                                          const std::filesystem::path& mountinfo = "/proc/self/mountinfo");

}  // namespace mpishards::rank
