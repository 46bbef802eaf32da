#pragma once
// The device that a run trains on.

#include <ATen/core/Tensor.h>

#include <string>

namespace kvasir::train {

struct TrainDevice {
  at::Device device = at::kCPU;
  std::string name;  // the GPU's; empty on the CPU
};

// "auto" (the first GPU that libtorch and we run on, else the CPU), "cpu", "cuda", "cuda:N".
// Throws kNotFound, kUnsupported, kInvalidArgument.
TrainDevice train_device(const std::string& words);

}  // namespace kvasir::train
