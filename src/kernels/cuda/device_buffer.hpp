#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cuda/stream.hpp"

namespace mpishards::kernels::cuda {

/// Memory of a device, or of the host where the device can reach it. Owner: move-only.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  /// Of the device itself. @throws Error{unavailable} with the number where it has no more
  static DeviceMemory allocate(const Stream& stream, std::size_t bytes);
  /// Host memory whose pages stay in place, so that copies overlap with work.
  static DeviceMemory pinned(const Stream& stream, std::size_t bytes);
  /// The caller's host memory, made readable for the device until this goes. Empty memory is nothing.
  static DeviceMemory registered(const Stream& stream, const void* host, std::size_t bytes);
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        host_(std::exchange(other.host_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        kind_(other.kind_),
        device_(other.device_) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(host_, other.host_);
    std::swap(bytes_, other.bytes_);
    std::swap(kind_, other.kind_);
    std::swap(device_, other.device_);
    return *this;
  }
  ~DeviceMemory();

  /// Address that the device uses.
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  enum class Kind : std::uint8_t { device, pinned, registered };

  void* data_ = nullptr;
  void* host_ = nullptr;  // registered: address that the host uses
  std::size_t bytes_ = 0;
  Kind kind_ = Kind::device;
  int device_ = 0;
};

/// A device's array that only grows; what it holds is lost where it grows.
template <class T>
class DeviceBuffer {
 public:
  void reserve(const Stream& stream, std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes <= memory_.bytes()) return;
    memory_ = DeviceMemory();  // no two at a time
    memory_ = DeviceMemory::allocate(stream, bytes);
  }
  T* data() const { return static_cast<T*>(memory_.data()); }
  std::size_t bytes() const { return memory_.bytes(); }

 private:
  DeviceMemory memory_;
};

/// Pinned host array that only grows.
template <class T>
class PinnedBuffer {
 public:
  void reserve(const Stream& stream, std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes <= memory_.bytes()) return;
    memory_ = DeviceMemory();
    memory_ = DeviceMemory::pinned(stream, bytes);
  }
  T* data() const { return static_cast<T*>(memory_.data()); }
  std::size_t bytes() const { return memory_.bytes(); }

 private:
  DeviceMemory memory_;
};

/// Puts copies into the stream; host memory must stay until they are done.
void copy_to_device(const Stream& stream, void* device, const void* host, std::size_t bytes);
void copy_to_host(const Stream& stream, void* host, const void* device, std::size_t bytes);
void fill_zero(const Stream& stream, void* device, std::size_t bytes);

/// What a search is planned with: memory that nobody has taken yet, and what the device has for blocks.
struct DeviceFacts {
  std::int64_t free_bytes = 0;
  int multiprocessors = 1;
  std::int64_t shared_bytes = 0;  // that a block may ask for
};
/// @throws Error{cuda}
DeviceFacts device_facts(const Stream& stream);

}  // namespace mpishards::kernels::cuda
