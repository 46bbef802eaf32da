#pragma once
// The device that a run trains on.

#include <ATen/core/Tensor.h>

#include <string>

namespace kvasir::train {

struct TrainDevice {
  at::Device device = at::kCPU;
  std::string name;  // the GPU's; empty on the CPU
};

// "auto" (GPU number `rank` where libtorch and we run on GPUs, else the CPU), "cpu", "cuda" (GPU
// number `rank`), "cuda:N". Throws kNotFound, kUnsupported, kInvalidArgument.
TrainDevice train_device(const std::string& words, int rank = 0);

}  // namespace kvasir::train
