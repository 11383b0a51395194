#include "serve/trace_context.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <random>

#include "core/mixed_bits.hpp"

namespace mpishards::serve {
namespace {

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_zero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

std::string hex(std::uint64_t value) {
  std::array<char, 16> digits{};
  char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16).ptr;
  const std::string text(digits.data(), end);
  return std::string(16 - text.size(), '0') + text;
}

std::uint64_t process_seed() {
  static const std::uint64_t seed = [] {
    std::random_device device;
    return (std::uint64_t{device()} << 32) | device();
  }();
  return seed;
}

/// No two requests of a process are at one address at one time.
std::uint64_t identity_of(const RequestContext& context) {
  const auto address = reinterpret_cast<std::uintptr_t>(&context);
  const auto time = static_cast<std::uint64_t>(context.begin.time_since_epoch().count());
  return mixed_bits(mixed_bits(process_seed() ^ address) ^ time);
}

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view header) {
  constexpr std::size_t kLength = 55;  // vv-<32>-<16>-ff
  if (header.size() < kLength || header[2] != '-' || header[35] != '-' || header[52] != '-') return {};
  const std::string_view version = header.substr(0, 2);
  const std::string_view trace_id = header.substr(3, 32);
  const std::string_view parent_id = header.substr(36, 16);
  const std::string_view flags = header.substr(53, 2);
  if (!is_hex(version) || !is_hex(trace_id) || !is_hex(parent_id) || !is_hex(flags)) return {};
  if (version == "ff" || is_zero(trace_id) || is_zero(parent_id)) return {};
  // Later versions may add fields behind a dash, this one may not.
  if (header.size() > kLength && (version == "00" || header[kLength] != '-')) return {};
  unsigned bits = 0;
  std::from_chars(flags.data(), flags.data() + flags.size(), bits, 16);
  return TraceContext{std::string(trace_id), std::string(parent_id), (bits & 1U) != 0};
}

TraceContext trace_of(const RequestContext& context) {
  if (auto parent = parse_traceparent(context.traceparent)) return *parent;
  const std::uint64_t identity = identity_of(context);
  return {hex(mixed_bits(identity ^ process_seed())) + hex(identity | 1), "", false};
}

bool is_in_sample(std::string_view trace_id, double ratio) {
  std::uint64_t high = 0;
  std::from_chars(trace_id.data(), trace_id.data() + std::min<std::size_t>(trace_id.size(), 16), high, 16);
  constexpr double kTwoTo64 = 18446744073709551616.0;
  return static_cast<double>(high) < ratio * kTwoTo64 || ratio >= 1;
}

std::string span_id_of(const RequestContext& context, int place) {
  return hex(mixed_bits(identity_of(context) ^ (static_cast<std::uint64_t>(place) << 32)) | 1);
}

}  // namespace mpishards::serve
