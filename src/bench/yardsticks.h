#pragma once
// What our figures are compared with, measured in the same run: libtorch and the memory.

#include <atomic>
#include <cstdint>

#include "base/memory.h"
#include "base/thread_pool.h"

namespace kvasir::bench {

void set_libtorch_threads(int threads);

// Rate of libtorch's bf16 matrix product [m, k] x [n, k]^T, in FLOP/s.
double libtorch_gemm_rate(int64_t m, int64_t n, int64_t k);

// Rate of libtorch's causal scaled_dot_product_attention in bf16, queries [1, heads, length,
// head_dim], KV heads repeated outside the timing; FLOP/s, counting the causal half.
double libtorch_attention_rate(int64_t heads, int64_t length, int64_t head_dim);

// A buffer of whole MiB that is read in a stream, to compare with what else reads as many bytes.
class ReadBuffer {
 public:
  ReadBuffer(ThreadPool& pool, int64_t bytes);
  void read();
  int64_t bytes() const { return static_cast<int64_t>(memory_.bytes()); }

 private:
  ThreadPool& pool_;
  Memory memory_;
  std::atomic<uint64_t> sink_{0};
};

}  // namespace kvasir::bench
