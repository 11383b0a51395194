#pragma once

namespace mpishards::serve {

/// Has the C library keep little free memory. A server has many threads, and now and then a huge request: by
/// default each thread's part of the heap keeps the largest that it ever held. For the start of a process.
void keep_heap_small();

/// Gives free memory back to the system. @par Cost  up to a microsecond for each free block
void return_free_memory();

}  // namespace mpishards::serve
