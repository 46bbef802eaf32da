#pragma once
// What our figures on a GPU are compared with, measured in the same run.

#include <cstdint>
#include <string>

#include "cuda/device.h"

namespace kvasir::bench {

// Rate of a device-to-device copy of `bytes`, counting bytes read and bytes written; bytes/s.
double copy_bandwidth(int64_t bytes);
// Rate of copies of `bytes` from page-locked host memory; bytes/s.
double host_to_device_rate(int64_t bytes);

// libtorch's CUDA half is loaded at run time; absent in its CPU builds: then the rates are 0.
bool libtorch_has_cuda();
// bf16 [m, k] x [n, k]^T, in FLOP/s.
double libtorch_gpu_gemm_rate(int64_t m, int64_t n, int64_t k);
// Causal attention in bf16, [1, heads, length, head_dim] with kv_heads, counting the causal half:
// the faster of cuDNN and flash; `chosen` says which. FLOP/s.
double libtorch_gpu_attention_rate(int64_t q_heads, int64_t kv_heads, int64_t length,
                                   int64_t head_dim, std::string& chosen);

}  // namespace kvasir::bench
