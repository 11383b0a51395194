#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.hpp"
#include "io/range.hpp"
#include "io/vector_source.hpp"

namespace mpishards::test {

/// float32 rows of 4 KiB in no file, whose first value is their number; notes what is read.
class NumberedRows final : public io::VectorSource {
 public:
  static constexpr std::int64_t kCols = 1024;
  static constexpr std::int64_t kRowsOfPiece = 4096;  // 16 MiB

  std::int64_t rows() const override { return 10 * kRowsOfPiece; }
  std::int64_t cols() const override { return kCols; }
  DType dtype() const override { return DType::f32; }
  const std::string& name() const override { return name_; }
  std::string_view format() const override { return "test"; }
  bool is_read_in_parallel() const override { return is_parallel; }
  void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    if (begin <= unreadable && unreadable < end) throw Error(ErrorKind::io, "row is gone");
    auto* const values = reinterpret_cast<float*>(out);
    std::fill_n(values, (end - begin) * kCols, 1.0F);
    for (std::int64_t row = begin; row < end; ++row) values[(row - begin) * kCols] = static_cast<float>(row);
    for (const std::int64_t bad : nonfinite)
      if (begin <= bad && bad < end)
        values[(bad - begin) * kCols + kCols - 1] = std::numeric_limits<float>::infinity();
    const std::lock_guard lock(mutex_);
    reads_.push_back({begin, end});
  }
  std::vector<io::Range> reads() const {
    std::vector<io::Range> sorted = reads_;
    std::ranges::sort(sorted, {}, &io::Range::begin);
    return sorted;
  }

  bool is_parallel = true;
  std::int64_t unreadable = -1;
  std::vector<std::int64_t> nonfinite;

 private:
  std::string name_ = "numbered";
  mutable std::mutex mutex_;
  mutable std::vector<io::Range> reads_;
};

}  // namespace mpishards::test
