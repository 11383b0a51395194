#include "core/bulk_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace mpishards {
namespace {

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
using Bulk = std::unique_ptr<std::byte, Free>;

TEST(BulkMemory, large_blocks_begin_with_a_huge_page_and_end_anywhere) {
  constexpr std::size_t kHugePage = std::size_t{1} << 21;
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{4000}, 4 * kHugePage - 1,
                                  4 * kHugePage, 5 * kHugePage + 3, 6 * kHugePage - 1}) {
    const Bulk block(allocate_bulk(bytes));
    ASSERT_NE(block, nullptr) << bytes;
    const std::size_t alignment = bytes < 4 * kHugePage ? 64 : kHugePage;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.get()) % alignment, 0u) << bytes;
    std::fill_n(block.get(), bytes, std::byte{7});
    EXPECT_EQ(std::count(block.get(), block.get() + bytes, std::byte{7}), bytes);
  }
}

TEST(BulkMemory, says_when_there_is_none) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer ends a process that asks for so much";
#endif
  EXPECT_THROW(allocate_bulk(std::size_t{1} << 62), std::bad_alloc);
}

}  // namespace
}  // namespace mpishards
