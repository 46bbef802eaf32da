#pragma once
// Which NVIDIA GPU there is, and whether it will do.

#include <cstdint>
#include <string>

#include "base/result.h"

namespace kvasir::cuda {

struct Device {
  int index = 0;
  std::string name;
  int multiprocessors = 0;
  int compute_capability = 0;  // 90 = 9.0
  int64_t total_bytes = 0;
  int64_t free_bytes = 0;  // when it was asked
};

// The oldest compute capability that the kernels run on.
inline constexpr int kOldestCapability = 80;

// Looks at device `index` without setting anything up on it but the driver. One sentence says why
// none will do: kNotFound (no driver, no device, fewer devices than asked for), kUnsupported
// (driver or device too old).
Result<Device> find_device(int index = 0);

// Makes the device current on the calling thread and sets up its context (tenths of a second).
// Fills in free_bytes. Errors: kResourceExhausted where others hold the device for themselves or
// all of its memory.
Result<void> use_device(Device& device);

}  // namespace kvasir::cuda
