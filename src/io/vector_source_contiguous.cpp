#include "io/vector_source_contiguous.hpp"

#include <algorithm>
#include <array>

#include "core/error.hpp"

namespace mpishards::io {

namespace {

constexpr std::string_view kGitLfs = "version https://git-lfs";

void swap_elements(std::byte* data, std::int64_t count, std::size_t size) {
  for (std::int64_t i = 0; i < count; ++i, data += size) std::reverse(data, data + size);
}

}  // namespace

File open_data_file(const std::string& path) {
  File file = File::open_read(path);
  const std::int64_t size = file.size_bytes();
  if (size == 0) throw Error(ErrorKind::data, path + " is empty (0 bytes)");
  std::array<char, kGitLfs.size()> start{};
  const std::size_t known = std::min(static_cast<std::size_t>(size), start.size());
  file.read_at(0, start.data(), known);
  if (std::string_view(start.data(), known) == kGitLfs)
    throw Error(ErrorKind::data,
                path + " is a Git LFS pointer in place of the data; fetch it with `git lfs pull`");
  return file;
}

std::int64_t matrix_bytes(const std::string& name, std::int64_t rows, std::int64_t cols, DType dtype) {
  const std::string shape = shape_text(rows, cols, dtype);
  if (rows <= 0 || cols <= 0)
    throw Error(ErrorKind::data, name + " is empty: it has shape " + shape + ", expected at least 1 x 1");
  std::int64_t elements = 0;
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(rows, cols, &elements) ||
      __builtin_mul_overflow(elements, static_cast<std::int64_t>(size_bytes(dtype)), &bytes))
    throw Error(ErrorKind::data, name + ": shape " + shape + " exceeds any file; the header is damaged");
  return bytes;
}

std::string shape_text(std::int64_t rows, std::int64_t cols, DType dtype) {
  return std::to_string(rows) + " x " + std::to_string(cols) + " " + std::string(to_string(dtype));
}

void require_row_range(const VectorSource& source, std::int64_t begin, std::int64_t end) {
  if (0 <= begin && begin <= end && end <= source.rows()) return;
  throw Error(ErrorKind::internal, source.name() + ": rows [" + std::to_string(begin) + ", " +
                                       std::to_string(end) + ") of " + std::to_string(source.rows()) +
                                       " were asked for");
}

ContiguousSource::ContiguousSource(File file, std::string name, std::string_view format, Layout layout)
    : file_(std::move(file)), name_(std::move(name)), format_(format), layout_(std::move(layout)) {}

void ContiguousSource::read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const {
  require_row_range(*this, begin, end);
  const std::size_t element = size_bytes(layout_.dtype);
  const std::int64_t row_bytes = layout_.cols * static_cast<std::int64_t>(element);
  file_.read_at(layout_.offset + begin * row_bytes, out, static_cast<std::size_t>((end - begin) * row_bytes));
  if (layout_.swap_bytes) swap_elements(out, (end - begin) * layout_.cols, element);
}

}  // namespace mpishards::io
