#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "cuda/device.h"
#include "kvasir/error.h"
#include "train/gpu.h"

namespace kvasir::train {

TrainDevice train_device(const std::string& words) {
  if (words == "cpu") return {};
  const bool is_auto = words == "auto";
  int index = 0;
  if (words.starts_with("cuda:")) index = std::stoi(words.substr(5));
  const auto found = cuda::find_device(index);
  if (!found || !at::hasCUDA()) {
    if (is_auto) return {};
    if (!found) throw found.error();
    throw Error(ErrorCode::kUnsupported, "expected a libtorch for CUDA, found one for CPUs alone",
                "--device");
  }
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(index));
  // Kernels go to the default stream of the thread's device.
  c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(device);
  return {device, found.value().name};
}

}  // namespace kvasir::train
