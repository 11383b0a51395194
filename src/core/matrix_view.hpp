#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

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

/// Owning, 64-byte aligned, row-major matrix whose element type is known at run time. Not initialised.
class Matrix {
 public:
  Matrix() = default;
  /// @throws std::bad_alloc
  Matrix(DType dtype, std::int64_t rows, std::int64_t cols)
      : dtype_(dtype), rows_(rows), cols_(cols), data_(allocate(bytes())) {}

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
  static std::byte* allocate(std::size_t bytes) {
    const std::size_t alignment = bytes < kLeastHugeBytes ? kCacheLine : kHugePage;
    const std::size_t rounded = (bytes + alignment) / alignment * alignment;
    void* p = std::aligned_alloc(alignment, rounded);
    if (p == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    // Only whole pages, so that no more than the matrix becomes resident; where there are none, nothing is
    // lost.
    if (alignment == kHugePage) ::madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    return static_cast<std::byte*>(p);
  }

  static constexpr std::size_t kCacheLine = 64;
  static constexpr std::size_t kHugePage = std::size_t{1} << 21;
  // From here on filling a fresh matrix takes longer than faulting its pages in one by one should.
  static constexpr std::size_t kLeastHugeBytes = 4 * kHugePage;

  DType dtype_ = DType::f32;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace mpishards
