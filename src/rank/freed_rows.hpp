#pragma once

namespace mpishards::rank {

/// From now on freed rows go back to the system, so that the process holds what the plan says. Left alone,
/// glibc keeps freed blocks of up to 32 MiB for reuse, in every thread that reads.
void return_freed_rows();

}  // namespace mpishards::rank
