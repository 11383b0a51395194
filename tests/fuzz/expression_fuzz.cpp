// libFuzzer: no text crashes the expression parser, and what it accepts means what it says about single ids.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "serve/expression.hpp"
#include "serve/status.hpp"

using namespace mpishards::serve;

namespace {

void insist(bool holds) {
  if (!holds) std::abort();
}

/// A set and its complement share no id and leave none out; intervals are sorted and apart.
void check(const IdSet& set) {
  insist(set.complement().complement() == set);
  insist(intersection(set, set.complement()).is_empty());
  insist(united(set, set.complement()).is_all());
  for (std::size_t i = 0; i < set.intervals().size(); ++i) {
    const IdSet::Interval interval = set.intervals()[i];
    insist(interval.first <= interval.last);
    insist(set.contains(interval.first) && set.contains(interval.last));
    insist(i == 0 || set.intervals()[i - 1].last < interval.first - 1);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const TemplateValues templates = {
      {"n", std::int64_t{7}}, {"x", 2.5}, {"list", std::vector<std::int64_t>{3, 1}}};
  try {
    check(parse_expression(text, "id", templates));
  } catch (const RequestError& error) {
    insist(error.code() == Code::invalid_parameter || error.code() == Code::field_not_found);
  }
  return 0;
}
