#pragma once

#include <utility>

struct CUstream_st;  // cudaStream_t points to one

namespace mpishards::kernels::cuda {

/// A device's queue of work. Owner: move-only.
class Stream {
 public:
  Stream() = default;
  /// Does not wait for the device's default stream. @throws Error{cuda}, Error{unavailable} without a device
  static Stream create(int device);
  Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)), device_(other.device_) {}
  Stream& operator=(Stream&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(device_, other.device_);
    return *this;
  }
  ~Stream();

  /// Makes the stream's device the calling thread's.
  void use_device() const;
  /// Waits until all work is done. @throws Error{cuda} for what failed in it
  void wait() const;

  CUstream_st* get() const { return handle_; }
  int device() const { return device_; }

 private:
  CUstream_st* handle_ = nullptr;
  int device_ = 0;
};

}  // namespace mpishards::kernels::cuda
