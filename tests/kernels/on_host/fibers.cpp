#include "on_host/fibers.hpp"

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <vector>

namespace mpishards::on_host {
namespace {

constexpr std::size_t kStackBytes = 64 * 1024;
constexpr unsigned kWarp = 32;

/// A barrier that fibers wait at: open for those who came before the count was full.
struct Barrier {
  unsigned arrived = 0;
  unsigned round = 0;
};

struct Fiber {
  jmp_buf point;
  ucontext_t start;
  std::unique_ptr<std::byte[]> stack;
  Index3 index;
  bool is_started = false;
  bool is_done = false;
  const Barrier* waits_at = nullptr;
  unsigned waits_round = 0;
};

struct Warp {
  Barrier barrier;
  std::uint64_t values[2][kWarp];
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
Barrier block_barrier;
unsigned alive = 0;
Fiber* running = nullptr;
Index3 block;
Index3 grid;
jmp_buf scheduler;
ucontext_t scheduler_start;
const std::function<void()>* work = nullptr;

// Contexts begin by swapcontext and go on by longjmp, which makes no system call.
void yield() {
  if (_setjmp(running->point) == 0) _longjmp(scheduler, 1);
}

void fiber_main() {
  (*work)();
  running->is_done = true;
  --alive;
  _longjmp(scheduler, 1);
}

void wait(Barrier& barrier, unsigned expected) {
  const unsigned round = barrier.round;
  ++barrier.arrived;
  if (barrier.arrived == expected) {
    barrier.arrived = 0;
    ++barrier.round;
    return;
  }
  running->waits_at = &barrier;
  running->waits_round = round;
  yield();
}

bool is_ready(const Fiber& fiber) {
  return !fiber.is_done && (fiber.waits_at == nullptr || fiber.waits_at->round != fiber.waits_round);
}

void resume(Fiber& fiber) {
  running = &fiber;
  fiber.waits_at = nullptr;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.is_started) _longjmp(fiber.point, 1);
  fiber.is_started = true;
  getcontext(&fiber.start);
  fiber.start.uc_stack.ss_sp = fiber.stack.get();
  fiber.start.uc_stack.ss_size = kStackBytes;
  fiber.start.uc_link = &scheduler_start;
  makecontext(&fiber.start, fiber_main, 0);
  setcontext(&fiber.start);
}

void run_block(unsigned threads) {
  alive = threads;
  block_barrier = {};
  for (Warp& warp : warps) warp = {};
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& fiber = fibers[t];
    if (!fiber.stack) fiber.stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
    fiber.index = {t, 0};
    fiber.is_started = fiber.is_done = false;
    fiber.waits_at = nullptr;
  }
  while (alive > 0) {
    bool moved = false;
    for (unsigned t = 0; t < threads; ++t)
      if (is_ready(fibers[t])) {
        resume(fibers[t]);
        moved = true;
      }
    if (moved) continue;
    // Those who returned are no longer waited for.
    if (block_barrier.arrived != alive)
      throw std::logic_error("threads of a block wait for each other at different places");
    block_barrier.arrived = 0;
    ++block_barrier.round;
  }
}

}  // namespace

void run_grid(Index3 blocks, unsigned threads, const std::function<void()>& body) {
  if (fibers.size() < threads) fibers = std::vector<Fiber>(threads);
  warps.assign((threads + kWarp - 1) / kWarp, {});
  work = &body;
  grid = blocks;
  for (block.y = 0; block.y < blocks.y; ++block.y)
    for (block.x = 0; block.x < blocks.x; ++block.x) run_block(threads);
}

const Index3& thread_index() {
  return running->index;
}
const Index3& block_index() {
  return block;
}
const Index3& grid_size() {
  return grid;
}

void wait_for_block() {
  wait(block_barrier, alive);
}

const std::uint64_t* exchange_in_warp(std::uint64_t value) {
  Warp& warp = warps[running->index.x / kWarp];
  std::uint64_t* const values = warp.values[warp.barrier.round % 2];
  values[running->index.x % kWarp] = value;
  wait(warp.barrier, kWarp);
  return values;
}

}  // namespace mpishards::on_host
