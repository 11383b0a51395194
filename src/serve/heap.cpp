#include "serve/heap.hpp"

#include <malloc.h>

namespace mpishards::serve {

void keep_heap_small() {
#ifdef __GLIBC__
  constexpr int kMostArenas = 2;
  constexpr int kLargeBytes = 256 << 10;  // straight from the system, and straight back
  constexpr int kSpareBytes = 128 << 10;
  mallopt(M_ARENA_MAX, kMostArenas);
  mallopt(M_MMAP_THRESHOLD, kLargeBytes);
  mallopt(M_TRIM_THRESHOLD, kSpareBytes);
#endif
}

void return_free_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace mpishards::serve
