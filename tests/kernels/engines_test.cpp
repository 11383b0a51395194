#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/devices.hpp"
#include "kernels/index.hpp"
#include "support/expect_error.hpp"

namespace mpishards::kernels {
namespace {

TEST(Engines, auto_makes_the_cpu_index) {
  EXPECT_EQ(resolve_engine("auto"), "cpu");
  const auto index = make_index("flat", "auto", Metric::l2, {});
  EXPECT_EQ(index->description().substr(0, 4), "cpu ");
}

TEST(Engines, cuda_is_unavailable_without_a_device) {
  EXPECT_EQ(resolve_engine("cuda"), "cuda");
  std::string why_none;
  if (!list_gpus(why_none).empty()) GTEST_SKIP() << "there is a device";
  test::expect_error(ErrorKind::unavailable, [] { make_index("flat", "cuda", Metric::l2, {}); });
}

TEST(Engines, unknown_names_are_usage_errors) {
  test::expect_error(ErrorKind::usage, [] { resolve_engine("tpu"); });
  test::expect_error(ErrorKind::usage, [] { make_index("tree", "cpu", Metric::l2, {}); });
  test::expect_error(ErrorKind::usage, [] { make_index("flat", "cpu", Metric::l2, {1, "avx3", 0}); });
  test::expect_error(ErrorKind::usage, [] { make_index("flat", "cpu", Metric::l2, {0, "auto", 0}); });
}

TEST(Engines, every_listed_isa_makes_an_index_that_names_it) {
  const std::vector<std::string> names = isa_names();
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names.back(), "portable");
  for (const std::string& name : names)
    EXPECT_NE(make_index("flat", "cpu", Metric::ip, {1, name, 0})->description().find(name),
              std::string::npos);
}

TEST(Devices, an_empty_list_says_why) {
  std::string why_none;
  const std::vector<GpuDevice> devices = list_gpus(why_none);
  EXPECT_EQ(devices.empty(), !why_none.empty());
  for (const GpuDevice& device : devices) {
    EXPECT_EQ(device.uuid.size(), 40u);
    EXPECT_GT(device.memory_bytes, 0);
  }
}

TEST(Devices, are_dealt_out_in_turn) {
  EXPECT_EQ(device_place(0, 3, 0).device, 0);
  EXPECT_EQ(device_place(0, 3, 0).ranks, 1);
  for (const int host_ranks : {1, 2, 3, 4, 7, 8})
    for (const int n_devices : {1, 2, 3, 4, 8}) {
      std::vector<int> ranks(8, 0);
      for (int rank = 0; rank < host_ranks; ++rank)
        ++ranks[static_cast<std::size_t>(device_place(rank, host_ranks, n_devices).device)];
      for (int rank = 0; rank < host_ranks; ++rank) {
        const DevicePlace place = device_place(rank, host_ranks, n_devices);
        EXPECT_LT(place.device, n_devices);
        EXPECT_EQ(place.ranks, ranks[static_cast<std::size_t>(place.device)])
            << rank << " of " << host_ranks << " on " << n_devices;
      }
    }
}

}  // namespace
}  // namespace mpishards::kernels
