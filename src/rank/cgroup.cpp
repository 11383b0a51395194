#include "rank/cgroup.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace mpishards::rank {

namespace {

namespace fs = std::filesystem;

/// Where each version keeps its numbers.
struct Files {
  const char* limit;
  const char* usage;
  const char* reclaimable;  // key in memory.stat
};
constexpr Files kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr Files kVersion2 = {"memory.max", "memory.current", "inactive_file"};

// Version 1 writes "no limit" as the largest multiple of the page size.
constexpr std::int64_t kNoLimit = std::int64_t{1} << 60;

/// One line of /proc/self/mountinfo: "36 35 0:33 /root /mount opts - type source superopts".
struct Mount {
  std::string root;
  std::string point;
  std::string type;
  std::string options;
};

std::vector<Mount> read_mounts(const fs::path& mountinfo) {
  std::vector<Mount> mounts;
  std::ifstream in(mountinfo);
  for (std::string line; std::getline(in, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    Mount mount;
    std::string ignored;
    std::istringstream(line) >> ignored >> ignored >> ignored >> mount.root >> mount.point;
    std::istringstream(line.substr(dash + 3)) >> mount.type >> ignored >> mount.options;
    mounts.push_back(mount);
  }
  return mounts;
}

bool has_word(std::string_view list, std::string_view word) {
  std::istringstream in{std::string(list)};
  for (std::string item; std::getline(in, item, ',');)
    if (item == word) return true;
  return false;
}

/// This process' memory group as a folder, and the mount above which no folder is a group.
struct Group {
  fs::path folder;
  fs::path top;
  Files files;
};

std::optional<Group> find_group(const fs::path& cgroup, const std::vector<Mount>& mounts,
                                bool (*is_hierarchy)(std::string_view controllers),
                                bool (*is_mount)(const Mount&), const Files& files) {
  std::ifstream in(cgroup);
  for (std::string line; std::getline(in, line);) {  // "4:memory:/path", or "0::/path" for version 2
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    if (!is_hierarchy(std::string_view(line).substr(first + 1, second - first - 1))) continue;
    const std::string path = line.substr(second + 1);
    const auto mount = std::ranges::find_if(mounts, is_mount);
    if (mount == mounts.end()) return std::nullopt;
    // In a container the mount shows a subtree: paths are relative to its root, or not visible at all.
    const std::string below =
        mount->root != "/" && path.starts_with(mount->root) ? path.substr(mount->root.size()) : path;
    const fs::path top = mount->point;
    const fs::path folder = (top / fs::path(below).relative_path()).lexically_normal();
    return Group{fs::exists(folder / files.limit) ? folder : top, top, files};
  }
  return std::nullopt;
}

std::optional<std::int64_t> read_number(const fs::path& file) {
  std::ifstream in(file);
  std::int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;  // absent, or "max"
}

std::int64_t read_stat(const fs::path& file, std::string_view key) {
  std::ifstream in(file);
  std::string name;
  for (std::int64_t value = 0; in >> name >> value;)
    if (name == key) return value;
  return 0;
}

void look_at(const fs::path& folder, const Files& files, std::optional<CgroupMemory>& tightest) {
  const std::optional<std::int64_t> limit = read_number(folder / files.limit);
  if (!limit || *limit >= kNoLimit) return;
  const std::int64_t used = read_number(folder / files.usage).value_or(0);
  const std::int64_t kept =
      std::max<std::int64_t>(0, used - read_stat(folder / "memory.stat", files.reclaimable));
  const std::int64_t available = std::max<std::int64_t>(0, *limit - kept);
  if (!tightest) tightest = CgroupMemory{*limit, available};
  tightest->limit_bytes = std::min(tightest->limit_bytes, *limit);
  tightest->available_bytes = std::min(tightest->available_bytes, available);
}

}  // namespace

std::optional<CgroupMemory> cgroup_memory(const fs::path& cgroup, const fs::path& mountinfo) {
  const std::vector<Mount> mounts = read_mounts(mountinfo);
  const std::array<std::optional<Group>, 2> groups = {
      find_group(
          cgroup, mounts, [](std::string_view controllers) { return has_word(controllers, "memory"); },
          [](const Mount& mount) { return mount.type == "cgroup" && has_word(mount.options, "memory"); },
          kVersion1),
      find_group(
          cgroup, mounts, [](std::string_view controllers) { return controllers.empty(); },
          [](const Mount& mount) { return mount.type == "cgroup2"; }, kVersion2)};
  std::optional<CgroupMemory> tightest;
  for (const std::optional<Group>& group : groups) {
    if (!group) continue;
    for (fs::path folder = group->folder;; folder = folder.parent_path()) {
      look_at(folder, group->files, tightest);
      if (folder == group->top || folder == folder.parent_path()) break;
    }
  }
  return tightest;
}

}  // namespace mpishards::rank
