#include "bench/yardsticks_cuda.h"

#include <ATen/Context.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <dlfcn.h>

#include "bench/gpu_timing_cuda.h"
#include "cuda/memory.h"

namespace kvasir::bench {
namespace {

at::Tensor random(at::IntArrayRef shape) {
  return at::randn(shape, at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16));
}

// libtorch queues on the default stream.
constexpr cudaStream_t kLibtorchStream = nullptr;

}  // namespace

double copy_bandwidth(int64_t bytes) {
  const cuda::DeviceMemory from(static_cast<size_t>(bytes)), to(static_cast<size_t>(bytes));
  KVASIR_CUDA(cudaMemset(from.data(), 1, from.bytes()));
  const Timing timing = measure_on_gpu(nullptr, 9, 4, [&] {
    KVASIR_CUDA(
        cudaMemcpyAsync(to.data(), from.data(), to.bytes(), cudaMemcpyDeviceToDevice, nullptr));
  });
  return 2 * static_cast<double>(bytes) / timing.median_seconds;
}

double host_to_device_rate(int64_t bytes) {
  const cuda::PinnedMemory from(static_cast<size_t>(bytes));
  const cuda::DeviceMemory to(static_cast<size_t>(bytes));
  const Timing timing = measure_on_gpu(nullptr, 5, 2, [&] {
    KVASIR_CUDA(
        cudaMemcpyAsync(to.data(), from.data(), to.bytes(), cudaMemcpyHostToDevice, nullptr));
  });
  return static_cast<double>(bytes) / timing.median_seconds;
}

bool libtorch_has_cuda() {
  static const bool loaded = [] {
    // Its registrations make the device known to the libtorch that we are linked with.
    return ::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr && at::hasCUDA();
  }();
  return loaded;
}

double libtorch_gpu_gemm_rate(int64_t m, int64_t n, int64_t k) {
  if (!libtorch_has_cuda()) return 0;
  const at::Tensor a = random({m, k}), w = random({n, k});
  const Timing timing = measure_on_gpu(kLibtorchStream, 9, 4, [&] { at::linear(a, w); });
  return 2.0 * static_cast<double>(m * n * k) / timing.median_seconds;
}

double libtorch_gpu_attention_rate(int64_t q_heads, int64_t kv_heads, int64_t length,
                                   int64_t head_dim, std::string& chosen) {
  if (!libtorch_has_cuda()) return 0;
  const at::Tensor q = random({1, q_heads, length, head_dim});
  const at::Tensor k = random({1, kv_heads, length, head_dim});
  const at::Tensor v = random({1, kv_heads, length, head_dim});
  at::Context& settings = at::globalContext();
  settings.setSDPUseMath(false);
  settings.setSDPUseMemEfficient(false);
  double best = 0;
  for (const bool use_cudnn : {true, false}) {
    settings.setSDPUseCuDNN(use_cudnn);
    settings.setSDPUseFlash(!use_cudnn);
    const int batch = length <= 16384 ? 4 : 1;
    const Timing timing = measure_on_gpu(kLibtorchStream, 5, batch, [&] {
      at::scaled_dot_product_attention(q, k, v, std::nullopt, 0.0, /*is_causal=*/true, std::nullopt,
                                       /*enable_gqa=*/true);
    });
    const double rate = 4.0 * static_cast<double>(q_heads * head_dim) *
                        static_cast<double>(length) * static_cast<double>(length + 1) / 2 /
                        timing.median_seconds;
    if (rate > best) {
      best = rate;
      chosen = use_cudnn ? "cuDNN" : "flash";
    }
  }
  return best;
}

}  // namespace kvasir::bench
