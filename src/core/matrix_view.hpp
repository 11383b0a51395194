#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "core/bulk_memory.hpp"
#include "core/types.hpp"

namespace mpishards {

/// Borrowed row-major matrix of one element type; rows follow each other without padding.
template <class T>
struct MatrixView {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  T* row(std::int64_t r) const { return data + r * cols; }
  MatrixView slice(std::int64_t begin, std::int64_t end) const { return {row(begin), end - begin, cols}; }
};

/// Borrowed row-major matrix whose element type is known at run time.
struct TypedView {
  DType dtype = DType::f32;
  const std::byte* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  std::size_t row_bytes() const { return static_cast<std::size_t>(cols) * size_bytes(dtype); }
  const std::byte* row(std::int64_t r) const { return data + static_cast<std::size_t>(r) * row_bytes(); }
  template <class T>
  MatrixView<const T> as() const {
    return {reinterpret_cast<const T*>(data), rows, cols};
  }
};

/// Owning row-major matrix whose element type is known at run time. Not initialised, see allocate_bulk.
class Matrix {
 public:
  Matrix() = default;
  /// @throws std::bad_alloc
  Matrix(DType dtype, std::int64_t rows, std::int64_t cols)
      : dtype_(dtype), rows_(rows), cols_(cols), data_(allocate_bulk(bytes())) {}

  DType dtype() const { return dtype_; }
  std::int64_t rows() const { return rows_; }
  std::int64_t cols() const { return cols_; }
  std::size_t bytes() const {
    return static_cast<std::size_t>(rows_) * static_cast<std::size_t>(cols_) * size_bytes(dtype_);
  }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  TypedView view() const { return {dtype_, data_.get(), rows_, cols_}; }
  template <class T>
  MatrixView<T> as() {
    return {reinterpret_cast<T*>(data_.get()), rows_, cols_};
  }
  /// Forgets all rows from `rows` on; memory stays. @pre rows <= this->rows()
  void shrink_rows(std::int64_t rows) { rows_ = rows; }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };

  DType dtype_ = DType::f32;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace mpishards
