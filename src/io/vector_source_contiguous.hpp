#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "io/file.hpp"
#include "io/vector_source.hpp"

namespace mpishards::io {

/// Opens a data file and refuses what is none: an empty file, a Git LFS pointer.
/// @throws Error{input_missing|permission|data|io}
File open_data_file(const std::string& path);

/// rows * cols * size_bytes(dtype), checked. @throws Error{data} naming `name` where a size is not positive
/// or the product exceeds 63 bits
std::int64_t matrix_bytes(const std::string& name, std::int64_t rows, std::int64_t cols, DType dtype);

/// "10 x 96 f32"
std::string shape_text(std::int64_t rows, std::int64_t cols, DType dtype);

/// @throws Error{internal} unless 0 <= begin <= end <= source.rows()
void require_row_range(const VectorSource& source, std::int64_t begin, std::int64_t end);

/// Rows that lie one after the other in a file, without gaps.
class ContiguousSource : public VectorSource {
 public:
  struct Layout {
    std::int64_t offset = 0;  // of row 0
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    DType dtype = DType::f32;
    bool swap_bytes = false;  // the file has the other byte order
    std::string words = "contiguous";
  };
  /// @pre the file holds all rows of the layout
  ContiguousSource(File file, std::string name, std::string_view format, Layout layout);

  std::int64_t rows() const override { return layout_.rows; }
  std::int64_t cols() const override { return layout_.cols; }
  DType dtype() const override { return layout_.dtype; }
  const std::string& name() const override { return name_; }
  std::string_view format() const override { return format_; }
  std::string layout() const override { return layout_.words; }
  void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const override;

 private:
  File file_;
  std::string name_;
  std::string_view format_;
  Layout layout_;
};

}  // namespace mpishards::io
