// libFuzzer: no bytes crash the reader of query vectors, and what it accepts is no larger than they are.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "serve/milvus/placeholder.hpp"
#include "serve/status.hpp"

using namespace mpishards;
using namespace mpishards::serve;

namespace {

constexpr std::int64_t kDim = 3;

void insist(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const Matrix queries = milvus::parse_placeholder_group(bytes, kDim, 0);
    insist(queries.rows() >= 1 && queries.cols() == kDim);
    insist(queries.rows() <= static_cast<std::int64_t>(size) / kDim);
    insist(milvus::parse_placeholder_group(bytes, kDim, queries.rows()).rows() == queries.rows());
  } catch (const RequestError& error) {
    insist(error.code() == Code::invalid_parameter);
  }
  return 0;
}
