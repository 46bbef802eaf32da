#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "cuda/device.h"

namespace kvasir::cuda {
namespace {

// 13000 -> "13.0"
std::string version_name(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

Error no_devices(cudaError_t status) {
  int driver = 0;
  cudaDriverGetVersion(&driver);
  if (driver == 0)
    return Error(ErrorCode::kNotFound,
                 "expected an NVIDIA driver, found none on this machine; use --device cpu",
                 "--device");
  if (status == cudaErrorInsufficientDriver || driver / 1000 < CUDART_VERSION / 1000)
    return Error(ErrorCode::kUnsupported,
                 fmt::format("expected an NVIDIA driver for CUDA {} or later, found one for {}; "
                             "update it, or use --device cpu",
                             version_name(CUDART_VERSION / 1000 * 1000), version_name(driver)),
                 "--device");
  return Error(ErrorCode::kNotFound,
               fmt::format("expected an NVIDIA GPU, found none ({}); use --device cpu",
                           cudaGetErrorString(status)),
               "--device");
}

}  // namespace

Result<Device> find_device(int index) {
  int count = 0;
  if (const cudaError_t status = cudaGetDeviceCount(&count); status != cudaSuccess || count == 0)
    return no_devices(status == cudaSuccess ? cudaErrorNoDevice : status);
  if (index < 0 || index >= count)
    return Error(ErrorCode::kNotFound,
                 fmt::format("expected GPU {}, found {} here, numbered from 0", index,
                             count == 1 ? "1 GPU" : fmt::format("{} GPUs", count)),
                 "--device");
  cudaDeviceProp properties;
  if (const cudaError_t status = cudaGetDeviceProperties(&properties, index); status != cudaSuccess)
    return no_devices(status);
  Device device;
  device.index = index;
  device.name = properties.name;
  device.multiprocessors = properties.multiProcessorCount;
  device.compute_capability = properties.major * 10 + properties.minor;
  device.total_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  if (device.compute_capability < kOldestCapability)
    return Error(ErrorCode::kUnsupported,
                 fmt::format("expected a GPU of compute capability {}.{} or later, found {} with "
                             "{}.{}; use --device cpu",
                             kOldestCapability / 10, kOldestCapability % 10, device.name,
                             properties.major, properties.minor),
                 "--device");
  return device;
}

Result<void> use_device(Device& device) {
  cudaError_t status = cudaSetDevice(device.index);
  size_t free = 0, total = 0;
  if (status == cudaSuccess) status = cudaMemGetInfo(&free, &total);
  if (status != cudaSuccess)
    return Error(
        ErrorCode::kResourceExhausted,
        fmt::format("{} is there but cannot be used ({}); is another program holding it "
                    "for itself, or all of its memory? See nvidia-smi, or use --device cpu",
                    device.name, cudaGetErrorString(status)),
        "--device");
  device.free_bytes = static_cast<int64_t>(free);
  return {};
}

}  // namespace kvasir::cuda
