#include "rank/freed_rows.hpp"

#include <malloc.h>

namespace mpishards::rank {

void return_freed_rows() {
#ifdef __GLIBC__
  constexpr int kLargeBlockBytes = 1 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargeBlockBytes);
#endif
}

}  // namespace mpishards::rank
