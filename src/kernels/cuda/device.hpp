#pragma once

#include <string>
#include <vector>

#include "kernels/devices.hpp"

namespace mpishards::kernels::cuda {

/// list_gpus() of a build with CUDA.
std::vector<GpuDevice> list_devices(std::string& why_none);

}  // namespace mpishards::kernels::cuda
