#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace mpishards {

/// What a rank's main thread is doing; every moment of a run belongs to exactly one phase.
enum class Phase : std::uint8_t { other, read, scatter, search, merge, write, wait };
inline constexpr std::size_t kPhases = 7;
std::string_view to_string(Phase phase);

/// One uninterrupted stay in a phase, in seconds since the clock was made.
struct PhaseSpan {
  Phase phase = Phase::other;
  double begin_seconds = 0;
  double end_seconds = 0;
};

/// Attributes a thread's whole wall time to phases, so that their sum is the wall time.
///
/// Not thread safe: one clock a thread. Keeps at most `kMaxSpans` spans for the chart: when they are full,
/// neighbouring spans are joined pairwise under the longer one's phase; the totals stay exact.
class PhaseClock {
 public:
  static constexpr std::size_t kMaxSpans = 2048;

  PhaseClock();

  /// Enters a phase until the scope ends, then returns to the one before.
  class Scope {
   public:
    Scope(PhaseClock& clock, Phase phase) : clock_(clock), before_(clock.current()) { clock_.enter(phase); }
    ~Scope() { clock_.enter(before_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    PhaseClock& clock_;
    Phase before_;
  };

  Phase current() const { return current_; }
  void enter(Phase phase);

  /// Seconds since the clock was made.
  double elapsed_seconds() const;
  /// Seconds spent in each phase so far, the current one included; sums to elapsed_seconds().
  std::array<double, kPhases> totals_seconds() const;
  /// Spans so far, in order; the last one ends now.
  std::vector<PhaseSpan> spans() const;

 private:
  void close_span(double now);

  double start_ = 0;  // steady clock, seconds
  Phase current_ = Phase::other;
  double current_begin_ = 0;
  std::array<double, kPhases> totals_{};
  std::vector<PhaseSpan> spans_;
};

/// Seconds of a steady clock with an arbitrary origin.
double steady_seconds();

}  // namespace mpishards
