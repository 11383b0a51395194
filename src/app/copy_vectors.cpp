#include "app/copy_vectors.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "app/progress.hpp"
#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "core/timer.hpp"
#include "rank/row_hash.hpp"
#include "rank/unit_length.hpp"

namespace mpishards::app {

namespace {

constexpr std::int64_t kBlockBytes = std::int64_t{32} << 20;
constexpr double kSecondsBeforeProgress = 2;

double as_double(DType dtype, const std::byte* element) {
  double value = 0;
  convert_elements(dtype, element, DType::f64, reinterpret_cast<std::byte*>(&value), 1);
  return value;
}

/// Why one element has no place in `to`; empty if it has one. Finite values must stay finite.
std::string misfit(DType from, const std::byte* element, DType to) {
  std::byte converted[8];
  const double value = as_double(from, element);
  try {
    convert_elements(from, element, to, converted, 1);
  } catch (const Error&) {
    return std::to_string(value);
  }
  return std::isfinite(value) && !std::isfinite(as_double(to, converted)) ? std::to_string(value) : "";
}

/// Names the first value of a block that has no place in `to`. @return only if there is none
void refuse_misfits(const io::VectorSource& source, const Matrix& block, std::int64_t first_row, DType to) {
  const TypedView view = block.view();
  const std::size_t element = size_bytes(view.dtype);
  for (std::int64_t row = 0; row < view.rows; ++row)
    for (std::int64_t col = 0; col < view.cols; ++col) {
      const std::string value =
          misfit(view.dtype, view.row(row) + static_cast<std::size_t>(col) * element, to);
      if (!value.empty())
        throw Error(ErrorKind::data, source.describe_row(first_row + row) + ": value " + value +
                                         " in column " + std::to_string(col) + " has no place in " +
                                         std::string(to_string(to)) +
                                         "; write another dtype, such as f32, to a file that holds it");
    }
}

Matrix converted(const io::VectorSource& source, const Matrix& block, std::int64_t first_row, DType to) {
  Matrix out(to, block.rows(), block.cols());
  try {
    convert_elements(block.dtype(), block.data(), to, out.data(), block.rows() * block.cols());
  } catch (const Error&) {
    refuse_misfits(source, block, first_row, to);
    throw;
  }
  if (block.dtype() != to && first_nonfinite_row(out.view())) refuse_misfits(source, block, first_row, to);
  return out;
}

std::uint64_t copy_ids(const VectorCopy& copy, io::VectorWriter& writer) {
  constexpr std::int64_t kIdsAtOnce = 1 << 20;
  std::uint64_t hash = 0;
  std::vector<GlobalId> ids;
  for (std::int64_t begin = copy.rows.begin; begin < copy.rows.end; begin += kIdsAtOnce) {
    const std::int64_t end = std::min(begin + kIdsAtOnce, copy.rows.end);
    ids.resize(narrow<std::size_t>(end - begin));
    copy.source.read_ids(begin, end, ids);
    hash += rank::hash_ids(ids, begin);
    writer.append_ids(ids);
  }
  return hash;
}

std::uint64_t copy_rows(const VectorCopy& copy, io::VectorWriter& writer) {
  const io::VectorSource& source = copy.source;
  const io::Range rows = copy.rows;
  const bool on_terminal = isatty(STDERR_FILENO) != 0;
  const double start = steady_seconds();
  bool shown = false;
  std::uint64_t hash = 0;
  const std::int64_t step = std::max<std::int64_t>(1, kBlockBytes / (source.cols() * 8));
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += step) {
    const std::int64_t end = std::min(begin + step, rows.end);
    const Matrix read = source.read_matrix(begin, end);
    hash += rank::hash_rows(read.view(), begin);
    Matrix out = converted(source, read, begin, copy.dtype);
    if (copy.unit_length) rank::to_unit_length(out.as<float>());
    writer.append(out.data(), end - begin);
    const double elapsed = steady_seconds() - start;
    if (!on_terminal || elapsed < kSecondsBeforeProgress) continue;
    const double done = static_cast<double>(end - rows.begin) / static_cast<double>(rows.end - rows.begin);
    std::fprintf(stderr, "\r%5.1f %%  ETA %s   ", 100 * done,
                 format_duration(elapsed * (1 - done) / done).c_str());
    shown = true;
  }
  if (shown) std::fputc('\n', stderr);
  return hash;
}

}  // namespace

CopiedHashes copy_vectors(const VectorCopy& copy, io::VectorWriter& writer) {
  CopiedHashes hashes;
  hashes.rows = copy_rows(copy, writer);
  if (copy.with_ids) hashes.ids = copy_ids(copy, writer);
  return hashes;
}

}  // namespace mpishards::app
