#include "core/timer.hpp"

#include <chrono>

namespace mpishards {

namespace {

constexpr std::array<std::string_view, kPhases> kNames = {"other", "read",  "scatter", "search",
                                                          "merge", "write", "wait"};

}  // namespace

std::string_view to_string(Phase phase) {
  return kNames[static_cast<std::size_t>(phase)];
}

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

PhaseClock::PhaseClock() : start_(steady_seconds()) {}

double PhaseClock::elapsed_seconds() const {
  return steady_seconds() - start_;
}

void PhaseClock::enter(Phase phase) {
  if (phase == current_) return;
  const double now = elapsed_seconds();
  close_span(now);
  current_ = phase;
  current_begin_ = now;
}

void PhaseClock::close_span(double now) {
  totals_[static_cast<std::size_t>(current_)] += now - current_begin_;
  if (spans_.size() == kMaxSpans) {
    for (std::size_t i = 0; i < kMaxSpans / 2; ++i) {
      const PhaseSpan& a = spans_[2 * i];
      const PhaseSpan& b = spans_[2 * i + 1];
      const bool a_longer = a.end_seconds - a.begin_seconds >= b.end_seconds - b.begin_seconds;
      spans_[i] = {a_longer ? a.phase : b.phase, a.begin_seconds, b.end_seconds};
    }
    spans_.resize(kMaxSpans / 2);
  }
  spans_.push_back({current_, current_begin_, now});
}

std::array<double, kPhases> PhaseClock::totals_seconds() const {
  std::array<double, kPhases> totals = totals_;
  totals[static_cast<std::size_t>(current_)] += elapsed_seconds() - current_begin_;
  return totals;
}

std::vector<PhaseSpan> PhaseClock::spans() const {
  std::vector<PhaseSpan> all = spans_;
  all.push_back({current_, current_begin_, elapsed_seconds()});
  return all;
}

}  // namespace mpishards
