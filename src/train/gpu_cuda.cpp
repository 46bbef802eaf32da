#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "cuda/device.h"
#include "kvasir/error.h"
#include "train/gpu.h"

namespace kvasir::train {

TrainDevice train_device(const std::string& words, int rank) {
  if (words == "cpu") return {};
  // Of several processes none may train on the CPU while the others have GPUs.
  const bool may_be_cpu = words == "auto" && (rank == 0 || !at::hasCUDA() || !cuda::find_device(0));
  const int index = words.starts_with("cuda:") ? std::stoi(words.substr(5)) : rank;
  const auto found = cuda::find_device(index);
  if (!found || !at::hasCUDA()) {
    if (may_be_cpu) return {};
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
