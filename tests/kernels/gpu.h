#pragma once
// What tests of CUDA kernels share: the device or a reason to skip, arrays on it, and streams.

#include <gtest/gtest.h>

#include <cstring>
#include <span>
#include <vector>

#include "cuda/check.h"
#include "cuda/context.h"
#include "cuda/device.h"
#include "cuda/memory.h"

namespace kvasir::testing {

// Skips with the reason where there is no GPU that the kernels run on.
class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto device = cuda::find_device();
    if (!device) GTEST_SKIP() << device.error().what();
    device_ = device.value();
    cuda::use_device(device_).value();
    KVASIR_CUDA(cudaStreamCreateWithFlags(&context_.stream, cudaStreamNonBlocking));
    context_.multiprocessors = device_.multiprocessors;
    context_.compute_capability = device_.compute_capability;
  }
  void TearDown() override {
    if (context_.stream) cudaStreamDestroy(context_.stream);
  }
  void synchronize() const { KVASIR_CUDA(cudaStreamSynchronize(context_.stream)); }

  cuda::Device device_;
  cuda::Context context_;
};

// An array of T on the device, filled with 0xff (NaN in every floating type) or copied from the
// host.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count), memory_(count * sizeof(T)) {
    if (count > 0) KVASIR_CUDA(cudaMemset(memory_.data(), 0xff, count * sizeof(T)));
    arrive();
  }
  explicit DeviceArray(std::span<const T> values) : DeviceArray(values.size()) { write(values); }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(std::span<const T>(values)) {}

  T* data() const { return reinterpret_cast<T*>(memory_.data()); }
  size_t size() const { return count_; }
  void write(std::span<const T> values) {
    if (!values.empty())
      KVASIR_CUDA(
          cudaMemcpy(memory_.data(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice));
    arrive();
  }
  // Waits for the whole device.
  std::vector<T> read() const {
    std::vector<T> values(count_);
    KVASIR_CUDA(cudaDeviceSynchronize());
    if (count_ > 0)
      KVASIR_CUDA(
          cudaMemcpy(values.data(), memory_.data(), count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  // What was put on the default stream may go on after the call, and the tests' streams do not wait
  // for that one.
  static void arrive() { KVASIR_CUDA(cudaStreamSynchronize(cudaStreamLegacy)); }

  size_t count_;
  cuda::DeviceMemory memory_;
};

}  // namespace kvasir::testing
