#pragma once
// What device code of several ops shares: 16-bit floating types by DType, vectors of 16 bytes, and
// launching with overlap.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "base/dtype.h"
#include "cuda/check.h"
#include "cuda/context.h"

namespace kvasir::kernels {

using bfloat16 = __nv_bfloat16;
using float16 = __half;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(float16 value) { return __half2float(value); }

template <class T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ bfloat16 from_float<bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}
template <>
__device__ __forceinline__ float16 from_float<float16>(float value) {
  return __float2half_rn(value);
}

// As many T as fit into 16 bytes, read and written at once.
template <class T>
struct alignas(16) Vector {
  static constexpr int kSize = 16 / sizeof(T);
  T values[kSize];
};

// What PTX names shared memory by.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Waits until what the kernels before this one on the stream have written can be read. Called
// before the first read of anything that a kernel writes.
__device__ __forceinline__ void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// Says that the next kernel on the stream may begin (it still waits for this one's end before it
// reads).
__device__ __forceinline__ void let_next_begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// kernel<<<grid, block, shared_bytes, stream>>>(args...), overlapping where the context says so.
// A kernel launched through this calls wait_for_inputs().
template <class... Parameters, class... Args>
void launch(const cuda::Context& context, void (*kernel)(Parameters...), dim3 grid, dim3 block,
            size_t shared_bytes, const Args&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = context.stream;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[0].val.programmaticStreamSerializationAllowed = 1;
  // Kernels that part a multiprocessor's memory differently do not meet on it: one way for all.
  attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
  attributes[1].val.sharedMemCarveout = cudaSharedmemCarveoutMaxShared;
  config.attrs = attributes;
  // Later GPUs run the code of 8.0, which does not wait.
  config.numAttrs = context.overlap && context.compute_capability == 90 ? 2 : 0;
  KVASIR_CUDA(cudaLaunchKernelEx(&config, kernel, Parameters(args)...));
}

// Calls use(T{}) with the element type of `dtype`: f32, bf16 or f16.
template <class Use>
void with_type(DType dtype, Use&& use) {
  switch (dtype) {
    case DType::kF32:
      return use(float{});
    case DType::kBF16:
      return use(bfloat16{});
    case DType::kF16:
      return use(float16{});
  }
}

}  // namespace kvasir::kernels
