#include "io/xvecs_source.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "io/vector_source_contiguous.hpp"

namespace mpishards::io {

namespace {

constexpr std::int64_t kPrefixBytes = 4;                       // int32 d before every row
constexpr std::int64_t kBlockBytes = std::int64_t{512} << 10;  // for each thread that reads
/// How many rows are looked at to say which one breaks the file's shape.
constexpr std::int64_t kMaxDiagnosedRows = 1 << 20;

std::int32_t d_at(const File& file, std::int64_t offset) {
  std::int32_t d = 0;
  file.read_at(offset, &d, sizeof(d));
  return d;
}

[[noreturn]] void throw_mixed(const std::string& path, std::int64_t row, std::int64_t found, std::int64_t d) {
  throw Error(ErrorKind::data, path + " row " + std::to_string(row) + " has d = " + std::to_string(found) +
                                   ", row 0 has d = " + std::to_string(d) +
                                   "; all rows need one d (the file is damaged or not of this format)");
}

class XvecsSource final : public VectorSource {
 public:
  XvecsSource(File file, std::string name, DType dtype, std::int64_t cols)
      : file_(std::move(file)),
        name_(std::move(name)),
        dtype_(dtype),
        cols_(cols),
        row_bytes_(cols * static_cast<std::int64_t>(size_bytes(dtype))),
        stride_(kPrefixBytes + row_bytes_),
        rows_(file_.size_bytes() / stride_) {
    if (file_.size_bytes() % stride_ != 0) throw_bad_size();
    require_d(rows_ - 1, d_at(file_, (rows_ - 1) * stride_));
  }

  std::int64_t rows() const override { return rows_; }
  std::int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }
  const std::string& name() const override { return name_; }
  std::string_view format() const override { return "xvecs"; }
  std::string layout() const override { return "rows with their own d"; }

  void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    require_row_range(*this, begin, end);
    const std::int64_t block_rows = std::min(end - begin, std::max<std::int64_t>(1, kBlockBytes / stride_));
    std::vector<std::byte> block(static_cast<std::size_t>(block_rows * stride_));
    for (std::int64_t row = begin; row < end; row += block_rows) {
      const std::int64_t n = std::min(block_rows, end - row);
      file_.read_at(row * stride_, block.data(), static_cast<std::size_t>(n * stride_));
      strip_prefixes(block.data(), row, n, out + (row - begin) * row_bytes_);
    }
  }

 private:
  void require_d(std::int64_t row, std::int64_t found) const {
    if (found != cols_) throw_mixed(name_, row, found, cols_);
  }

  void strip_prefixes(const std::byte* in, std::int64_t first_row, std::int64_t n, std::byte* out) const {
    for (std::int64_t i = 0; i < n; ++i, in += stride_, out += row_bytes_) {
      std::int32_t d = 0;
      std::memcpy(&d, in, sizeof(d));
      require_d(first_row + i, d);
      std::memcpy(out, in + kPrefixBytes, static_cast<std::size_t>(row_bytes_));
    }
  }

  /// The size fits no whole number of rows: a row of another d, or an end inside the last row.
  [[noreturn]] void throw_bad_size() const {
    for (std::int64_t row = 0; row < std::min(rows_, kMaxDiagnosedRows); ++row)
      require_d(row, d_at(file_, row * stride_));
    const std::int64_t size = file_.size_bytes();
    const std::int64_t rest = size % stride_;
    if (rest >= kPrefixBytes) require_d(rows_, d_at(file_, rows_ * stride_));
    throw Error(ErrorKind::data, name_ + " ends inside row " + std::to_string(rows_) + ": " +
                                     std::to_string(size) + " bytes are " + std::to_string(rows_) +
                                     " rows of d = " + std::to_string(cols_) + " and " +
                                     std::to_string(rest) + " bytes; the file is truncated");
  }

  File file_;
  std::string name_;
  DType dtype_;
  std::int64_t cols_;
  std::int64_t row_bytes_;
  std::int64_t stride_;
  std::int64_t rows_;
};

}  // namespace

std::unique_ptr<VectorSource> open_xvecs(const InputSpec& spec, std::optional<DType> dtype) {
  File file = open_data_file(spec.path);
  const std::int64_t size = file.size_bytes();
  if (size < kPrefixBytes)
    throw Error(ErrorKind::data,
                spec.path + " has " + std::to_string(size) + " bytes, expected int32 d and a row");
  const std::int64_t d = d_at(file, 0);
  const std::int64_t needed = kPrefixBytes + d * static_cast<std::int64_t>(size_bytes(dtype.value()));
  if (d <= 0 || needed > size)
    throw Error(ErrorKind::data, spec.path + " row 0 says d = " + std::to_string(d) + ", but the file has " +
                                     std::to_string(size) + " bytes; it is truncated or not of this format");
  return std::make_unique<XvecsSource>(std::move(file), spec.path, dtype.value(), d);
}

}  // namespace mpishards::io
