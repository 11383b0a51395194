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

TEST(Engines, cuda_is_unavailable_until_it_is_built) {
  EXPECT_EQ(resolve_engine("cuda"), "cuda");
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

}  // namespace
}  // namespace mpishards::kernels
