#pragma once
// Synthetic attention plans of a stated kind and density, in device memory, for timing the kernels
// that execute them.

#include <cstdint>
#include <string_view>
#include <vector>

#include "cuda/memory.h"
#include "kernels/paged_attention/attention_plan_cuda.h"

namespace kvasir::bench {

enum class PlanKind {
  kSlashRuns,    // vertical-slash: 1000 columns, offsets in runs of 64 anywhere, the last 100
  kSlashRandom,  // the same with single offsets
  kColumns,      // nothing but columns and the last 100 offsets
  kBlocks,       // blocks of 64 keys anywhere, the diagonal
  kTriangle,     // TriangleMix: 8 first keys and the last 512; every key for the last 128 queries
  kDense,        // every key, as a plan
};

std::string_view name_of(PlanKind kind);

struct PlanShape {
  PlanKind kind = PlanKind::kSlashRuns;
  double density = 0.1;  // of the visible pairs; where the kind leaves a choice
  int32_t row_tile = 128;
};

// One plan for a span of `length` queries from position 0, each head's drawn on its own.
class SyntheticPlan {
 public:
  SyntheticPlan(const PlanShape& shape, int q_heads, int64_t length);
  const kernels::CudaAttentionPlan* on_device() const {
    return reinterpret_cast<const kernels::CudaAttentionPlan*>(plan_.data());
  }
  // Pairs of all heads that the plan holds, and that the method needs: of vertical-slash by the
  // rule of its released kernels, squares of 64 by 64 that grow where they touch (specified for a
  // tile of 64 queries), of others the same.
  double held_pairs() const { return held_pairs_; }
  double required_pairs() const { return required_pairs_; }

 private:
  void add_slashes(const PlanShape& shape, int64_t length, uint32_t seed);
  void add_blocks(const PlanShape& shape, int64_t length, uint32_t seed);
  void add_bounds(const PlanShape& shape, int64_t length);
  void upload(int32_t row_tile);

  std::vector<kernels::HeadProgram> heads_;
  std::vector<kernels::PlanSegment> segments_;
  std::vector<int32_t> columns_;
  std::vector<uint32_t> bits_;
  double held_pairs_ = 0, required_pairs_ = 0;
  cuda::DeviceMemory heads_memory_, segments_memory_, columns_memory_, bits_memory_, plan_;
};

}  // namespace kvasir::bench
