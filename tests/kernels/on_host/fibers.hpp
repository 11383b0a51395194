#pragma once

#include <cstdint>
#include <functional>

// Runs CUDA kernels on the host, one thread block at a time, each of its threads a fiber: what a kernel
// computes can be tested where there is no device. Only what our kernels use is here. Races between threads,
// memory that a device can't reach and anything about speed stay unseen.
namespace mpishards::on_host {

struct Index3 {
  unsigned x = 0;
  unsigned y = 0;
};

/// Runs body in every thread of every block. Not reentrant.
void run_grid(Index3 blocks, unsigned threads, const std::function<void()>& body);

/// Of the running fiber.
const Index3& thread_index();
const Index3& block_index();
const Index3& grid_size();

/// Waits for all threads of the block that have not returned.
void wait_for_block();
/// Gives the others of the warp a value, waits for theirs, and returns the 32 of them.
/// @pre all 32 threads of the warp call it
const std::uint64_t* exchange_in_warp(std::uint64_t value);

}  // namespace mpishards::on_host
