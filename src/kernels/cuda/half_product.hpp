#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels/cuda/stream.hpp"

namespace mpishards::kernels::cuda {

/// One product of planes.
struct HalfProductShape {
  std::int64_t nq = 0;
  std::int64_t rows = 0;
  std::int64_t cols = 0;           // of both planes
  std::int64_t row_stride = 0;     // elements from one base row to the next
  std::int64_t product_pitch = 0;  // floats from one query's sums to the next
  bool operator==(const HalfProductShape&) const = default;
};

/// products[q][r] = sum of queries[q][c] * rows[r][c], binary16 in, float32 sums and out, on tensor cores.
class HalfProduct {
 public:
  /// @throws Error{unavailable} where the library is missing, Error{cuda} where it fails
  explicit HalfProduct(const Stream& stream);
  HalfProduct(const HalfProduct&) = delete;
  ~HalfProduct();

  /// @pre row_stride and cols are multiples of 8, planes and products 256-byte aligned
  void run(const Stream& stream, const HalfProductShape& shape, const std::uint16_t* queries,
           const std::uint16_t* rows, float* products);

  /// Name and version of the library, for the report.
  std::string description() const;
  /// Workspace on the device.
  std::size_t bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mpishards::kernels::cuda
