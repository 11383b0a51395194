#include "rank/host_info.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "rank/cgroup.hpp"

namespace mpishards::rank {
namespace {

namespace fs = std::filesystem;

bool says(const std::vector<std::string>& warnings, const std::string& text) {
  return std::ranges::any_of(
      warnings, [&](const std::string& warning) { return warning.find(text) != std::string::npos; });
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "mpishards-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

  fs::path write(const fs::path& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
    return path_ / name;
  }

 private:
  fs::path path_;
};

/// A control group mount as files in a folder.
class FakeCgroup : public ::testing::Test {
 protected:
  std::optional<CgroupMemory> read(const std::string& cgroup, const std::string& root,
                                   const std::string& type, const std::string& options) {
    const fs::path mountinfo = folder_.write(
        "mountinfo", "20 1 0:5 / /proc rw shared:1 - proc proc rw\n36 35 0:33 " + root + " " +
                         (folder_.path() / "mount").string() + " rw - " + type + " source " + options + "\n");
    return cgroup_memory(folder_.write("cgroup", cgroup), mountinfo);
  }
  void group(const std::string& name, const std::string& file, const std::string& text) {
    folder_.write(fs::path("mount") / name / file, text);
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(FakeCgroup, version_2_takes_the_tightest_limit_on_the_way_up) {
  group(".", "memory.max", "max\n");
  group("job", "memory.max", "1000000\n");
  group("job", "memory.current", "900000\n");
  group("job", "memory.stat", "anon 600000\ninactive_file 250000\nactive_file 50000\n");
  group("job/step", "memory.max", "2000000\n");
  group("job/step", "memory.current", "1000\n");
  const auto memory = read("0::/job/step\n", "/", "cgroup2", "rw");
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->limit_bytes, 1000000);
  EXPECT_EQ(memory->available_bytes, 1000000 - (900000 - 250000));
}

TEST_F(FakeCgroup, version_1_reads_its_own_files) {
  group("slurm/job", "memory.limit_in_bytes", "5000000\n");
  group("slurm/job", "memory.usage_in_bytes", "4000000\n");
  group("slurm/job", "memory.stat", "cache 7\ntotal_inactive_file 1000000\n");
  const auto memory = read("5:cpu,cpuacct:/x\n4:memory:/slurm/job\n0::/\n", "/", "cgroup", "rw,memory");
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->limit_bytes, 5000000);
  EXPECT_EQ(memory->available_bytes, 2000000);
}

TEST_F(FakeCgroup, version_1_without_a_limit_has_none) {
  group("job", "memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_FALSE(read("4:memory:/job\n", "/", "cgroup", "rw,memory"));
}

TEST_F(FakeCgroup, a_container_sees_its_subtree_as_the_mount) {
  group(".", "memory.max", "3000\n");
  group(".", "memory.current", "1000\n");
  const auto memory = read("0::/docker/abc\n", "/docker/abc", "cgroup2", "rw");
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->available_bytes, 2000);
}

TEST_F(FakeCgroup, a_path_that_is_not_visible_means_the_mount_itself) {
  group(".", "memory.max", "3000\n");
  const auto memory = read("0::/../outside\n", "/", "cgroup2", "rw");
  ASSERT_TRUE(memory);
  EXPECT_EQ(memory->limit_bytes, 3000);
}

TEST_F(FakeCgroup, usage_above_the_limit_leaves_nothing) {
  group("job", "memory.max", "100\n");
  group("job", "memory.current", "150\n");
  EXPECT_EQ(read("0::/job\n", "/", "cgroup2", "rw")->available_bytes, 0);
}

TEST(HostInfo, memory_numbers_are_in_order) {
  EXPECT_GT(available_memory_bytes(), 0);
  EXPECT_LE(available_memory_bytes(), total_memory_bytes());
  EXPECT_GT(peak_rss_bytes(), 1 << 20);
}

TEST(HostInfo, peak_rss_grows_with_touched_memory) {
  const std::int64_t before = peak_rss_bytes();
  const std::vector<char> touched(200 << 20, 1);
  EXPECT_GE(peak_rss_bytes(), before + (150 << 20)) << touched.back();
}

TEST(HostInfo, names_are_not_empty) {
  EXPECT_FALSE(host_name().empty());
  EXPECT_FALSE(cpu_model().empty());
}

TEST(HostInfo, bound_cpus_is_the_affinity_of_the_process) {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  EXPECT_EQ(bound_cpus(), CPU_COUNT(&set));
  EXPECT_GE(bound_cores(), 1);
  EXPECT_LE(bound_cores(), bound_cpus());
}

TEST(HostInfo, filesystem_type_names_what_statfs_finds) {
  EXPECT_EQ(filesystem_type("/proc"), "proc");
  EXPECT_EQ(filesystem_type("/no/such/folder"), "unknown");
  EXPECT_NE(filesystem_type("."), "unknown");
}

TEST(HostInfo, locks_work_leaves_nothing_behind) {
  const TemporaryFolder folder;
  EXPECT_TRUE(locks_work(folder.path()));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  EXPECT_FALSE(locks_work(folder.path() / "absent"));
}

/// Environment variables of a launcher, as this test's process would find them under it; removed at the end.
class LauncherWarnings : public ::testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  void set(const char* name, const char* value) { ::setenv(name, value, 1); }

 private:
  static void clear() {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS",
                             "SLURM_STEP_NUM_TASKS", "PMI_RANK", "PMI_SIZE", "PMIX_RANK", "PMIX_SIZE"})
      ::unsetenv(name);
  }
};

TEST_F(LauncherWarnings, a_plain_start_has_none) {
  EXPECT_TRUE(launcher_warnings(1, 1, 1).empty());
}

TEST_F(LauncherWarnings, says_that_srun_started_copies_of_a_one_rank_job) {
  set("SLURM_PROCID", "2");
  set("SLURM_STEP_NUM_TASKS", "4");
  EXPECT_TRUE(says(launcher_warnings(1, 1, 1), "4 copies of the same job"));
  EXPECT_FALSE(says(launcher_warnings(4, 1, 1), "copies"));
}

TEST_F(LauncherWarnings, says_that_mpirun_of_another_mpi_started_copies) {
  set("PMI_RANK", "0");
  set("PMI_SIZE", "3");
  EXPECT_TRUE(says(launcher_warnings(1, 1, 1), "3 copies"));
}

TEST_F(LauncherWarnings, says_that_a_batch_script_forgot_srun) {
  set("SLURM_NTASKS", "8");
  EXPECT_TRUE(says(launcher_warnings(1, 1, 1), "start it with srun"));
}

TEST_F(LauncherWarnings, says_that_a_rank_has_more_threads_than_cores) {
  const int threads = bound_cpus() + 1;
  const bool host_has_them = threads <= ::sysconf(_SC_NPROCESSORS_ONLN);
  const std::string remedy = host_has_them ? "--cpus-per-task=" + std::to_string(threads)
                                           : "use --threads " + std::to_string(bound_cpus());
  EXPECT_TRUE(says(launcher_warnings(1, threads, 1), remedy));
}

TEST_F(LauncherWarnings, advises_fewer_threads_where_the_host_has_fewer_cpus) {
  const auto warnings = launcher_warnings(1, static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)) + 1, 1);
  EXPECT_TRUE(says(warnings, "use --threads"));
  EXPECT_FALSE(says(warnings, "--cpus-per-task"));
}

TEST_F(LauncherWarnings, says_that_a_host_has_more_threads_than_cpus) {
  const int ranks = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)) + 1;
  EXPECT_TRUE(says(launcher_warnings(ranks, 1, ranks), "start at most"));
  EXPECT_TRUE(says(launcher_warnings(ranks, 2, ranks), "use --threads 1"));
}

/// Runs in a child, because a process' binding is read once.
TEST_F(LauncherWarnings, says_that_several_threads_are_bound_to_one_core) {
  const pid_t child = ::fork();
  if (child == 0) {
    cpu_set_t all;
    sched_getaffinity(0, sizeof(all), &all);
    int first = 0;
    while (!CPU_ISSET(static_cast<unsigned>(first), &all)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(first), &one);
    if (sched_setaffinity(0, sizeof(one), &one) != 0) ::_exit(2);
    ::execl("/proc/self/exe", "host_info_test", "--gtest_also_run_disabled_tests",
            "--gtest_filter=*DISABLED_in_a_child_bound_to_one_core", nullptr);
    ::_exit(3);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(LauncherWarnings, DISABLED_in_a_child_bound_to_one_core) {
  if (::sysconf(_SC_NPROCESSORS_ONLN) < 2) GTEST_SKIP() << "this host has one CPU";
  EXPECT_EQ(bound_cores(), 1);
  EXPECT_TRUE(says(launcher_warnings(1, 2, 1), "bound to 1 core;"));
}

}  // namespace
}  // namespace mpishards::rank
