#pragma once
// Attention on the CPU over random pages, dense or planned, for timing.

#include <cstdint>
#include <vector>

#include "base/memory.h"
#include "base/thread_pool.h"
#include "kernels/paged_attention/paged_attention.h"

namespace kvasir::bench {

// Pages of random bf16 keys and values for one sequence and queries for its last rows.
class AttentionCase {
 public:
  AttentionCase(ThreadPool& pool, int q_heads, int kv_heads, int head_dim, int64_t length,
                int64_t rows);

  // Returns the query-key pairs scored. `plan` null: dense.
  uint64_t run(const kernels::AttentionPlan* plan = nullptr);
  // Of dense attention.
  double flops() const;
  double kv_bytes() const { return static_cast<double>(kv_.bytes()); }

 private:
  ThreadPool& pool_;
  int64_t length_, rows_;
  Memory kv_, q_, out_, workspace_;
  std::vector<uint32_t> table_;
  kernels::AttentionSpan span_;
  uint64_t scored_ = 0;
  kernels::AttentionArgs args_;
};

}  // namespace kvasir::bench
