#include "core/bulk_memory.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace mpishards {

namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{1} << 21;
// Smaller ones gain less than rounding them up to whole huge pages costs.
constexpr std::size_t kLeastHugeBytes = 4 * kHugePage;

}  // namespace

std::byte* allocate_bulk(std::size_t bytes) {
  const std::size_t alignment = bytes < kLeastHugeBytes ? kCacheLine : kHugePage;
  const std::size_t rounded = (bytes + alignment) / alignment * alignment;
  void* p = std::aligned_alloc(alignment, rounded);
  if (p == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  // Only whole pages, so that no more than was asked for becomes resident; where there are none, nothing is
  // lost.
  if (alignment == kHugePage) ::madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return static_cast<std::byte*>(p);
}

}  // namespace mpishards
