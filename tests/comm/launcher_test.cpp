#include <gtest/gtest.h>

#include <cstdlib>

#include "comm/environment.hpp"

namespace mpishards::comm {
namespace {

class DetectLauncher : public ::testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  void set(const char* name, const char* value) { ::setenv(name, value, 1); }

 private:
  static void clear() {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                             "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "PMI_RANK", "PMI_SIZE",
                             "MPI_LOCALRANKID", "PMIX_RANK", "PMIX_SIZE", "PMIX_LOCAL_RANK"})
      ::unsetenv(name);
  }
};

TEST_F(DetectLauncher, nothing_set_is_no_launcher) {
  const Launcher launcher = detect_launcher();
  EXPECT_EQ(launcher.name, "none");
  EXPECT_EQ(launcher.n_ranks, 1);
  EXPECT_EQ(launcher.rank, 0);
}

TEST_F(DetectLauncher, srun_tells_rank_size_and_local_rank) {
  set("SLURM_PROCID", "5");
  set("SLURM_STEP_NUM_TASKS", "8");
  set("SLURM_LOCALID", "1");
  const Launcher launcher = detect_launcher();
  EXPECT_EQ(launcher.name, "srun");
  EXPECT_EQ(launcher.n_ranks, 8);
  EXPECT_EQ(launcher.rank, 5);
  EXPECT_EQ(launcher.local_rank, 1);
}

TEST_F(DetectLauncher, mpirun_inside_a_slurm_job_counts_before_slurm) {
  set("SLURM_PROCID", "0");
  set("SLURM_STEP_NUM_TASKS", "2");
  set("OMPI_COMM_WORLD_RANK", "3");
  set("OMPI_COMM_WORLD_SIZE", "4");
  const Launcher launcher = detect_launcher();
  EXPECT_EQ(launcher.name, "mpirun");
  EXPECT_EQ(launcher.n_ranks, 4);
  EXPECT_EQ(launcher.rank, 3);
}

TEST_F(DetectLauncher, a_batch_script_without_srun_is_no_launcher) {
  set("SLURM_PROCID", "0");
  EXPECT_EQ(detect_launcher().name, "none");
}

TEST_F(DetectLauncher, hydra_and_empty_variables) {
  set("PMI_RANK", "1");
  set("PMI_SIZE", "2");
  set("SLURM_PROCID", "");
  set("SLURM_STEP_NUM_TASKS", "");
  EXPECT_EQ(detect_launcher().name, "mpiexec (PMI)");
}

}  // namespace
}  // namespace mpishards::comm
