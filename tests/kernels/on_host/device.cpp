// Stands in for the device's memory, streams and matrix products.
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <stdexcept>

#include "core/half.hpp"
#include "kernels/cuda/device_buffer.hpp"
#include "kernels/cuda/half_product.hpp"
#include "kernels/cuda/stream.hpp"

namespace mpishards::kernels::cuda {

Stream Stream::create(int device) {
  Stream stream;
  stream.device_ = device;
  return stream;
}
Stream::~Stream() = default;
void Stream::use_device() const {}
void Stream::wait() const {}

DeviceMemory DeviceMemory::allocate(const Stream& stream, std::size_t bytes) {
  DeviceMemory memory;
  memory.data_ = std::malloc(bytes);
  if (memory.data_ == nullptr) throw std::bad_alloc();
  std::memset(memory.data_, 0xee, bytes);  // nothing may be read before it is written
  memory.bytes_ = bytes;
  memory.device_ = stream.device();
  return memory;
}
DeviceMemory DeviceMemory::pinned(const Stream& stream, std::size_t bytes) {
  return allocate(stream, bytes);
}
namespace {

std::set<const void*> registered_memory;

}  // namespace

/// @throws std::logic_error for memory that is registered already, as a device refuses it
DeviceMemory DeviceMemory::registered(const Stream&, const void* host, std::size_t bytes) {
  if (!registered_memory.insert(host).second) throw std::logic_error("memory is registered twice");
  DeviceMemory memory;
  memory.kind_ = Kind::registered;
  memory.host_ = memory.data_ = const_cast<void*>(host);
  memory.bytes_ = bytes;
  return memory;
}
DeviceMemory::~DeviceMemory() {
  if (kind_ == Kind::registered)
    registered_memory.erase(host_);
  else
    std::free(data_);
}

void copy_to_device(const Stream&, void* device, const void* host, std::size_t bytes) {
  std::memcpy(device, host, bytes);
}
void copy_to_host(const Stream&, void* host, const void* device, std::size_t bytes) {
  std::memcpy(host, device, bytes);
}
void fill_zero(const Stream&, void* device, std::size_t bytes) {
  std::memset(device, 0, bytes);
}
DeviceFacts device_facts(const Stream&) {
  return {std::int64_t{1} << 30, 2, 227 * 1024};
}

struct HalfProduct::State {};
HalfProduct::HalfProduct(const Stream&) {}
HalfProduct::~HalfProduct() = default;

/// Sums in float32 towards zero, four products at a time: the worst that tensor cores do.
void HalfProduct::run(const Stream&, const HalfProductShape& shape, const std::uint16_t* queries,
                      const std::uint16_t* rows, float* products) {
  const auto truncated = [](double value) {
    const auto nearest = static_cast<float>(value);
    return std::abs(nearest) > std::abs(value) ? std::nextafterf(nearest, 0) : nearest;
  };
  for (std::int64_t q = 0; q < shape.nq; ++q)
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      float sum = 0;
      for (std::int64_t c = 0; c < shape.cols; c += 4) {
        double block = sum;
        for (std::int64_t i = c; i < c + 4; ++i)
          block += static_cast<double>(half_to_float(queries[q * shape.cols + i])) *
                   half_to_float(rows[r * shape.row_stride + i]);
        sum = truncated(block);
      }
      products[q * shape.product_pitch + r] = sum;
    }
}
std::string HalfProduct::description() const {
  return "host";
}
std::size_t HalfProduct::bytes() const {
  return 0;
}

}  // namespace mpishards::kernels::cuda
