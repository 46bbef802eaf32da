#pragma once
// Synthetic attention plans of a stated kind and density for the last rows of a sequence.

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/paged_attention/attention_plan.h"

namespace kvasir::bench {

enum class CpuPlanKind {
  kBlocks,        // blocks of 64 keys anywhere, every head's its own; the first and the diagonal
  kSharedBlocks,  // the same for all query heads of a KV head
  kAShape,        // 128 first keys and the last ones
  kSlashes,       // 40 % columns, 60 % offsets in runs of 64 anywhere, every head's its own
};

inline constexpr CpuPlanKind kCpuPlanKinds[] = {CpuPlanKind::kBlocks, CpuPlanKind::kSharedBlocks,
                                                CpuPlanKind::kAShape, CpuPlanKind::kSlashes};

std::string_view name_of(CpuPlanKind kind);

// In row tiles of 128.
class CpuPlan {
 public:
  // `group`: query heads of a KV head. The density is of the keys that the last row sees, about.
  CpuPlan(CpuPlanKind kind, double density, int q_heads, int group, int64_t length, int64_t rows);

  kernels::AttentionPlan view() const;  // until this goes

 private:
  void add_blocks(double density, int64_t length, int64_t rows, uint32_t seed);
  void add_a_shape(double density, int64_t length);
  void add_slashes(double density, int64_t length, uint32_t seed);

  std::vector<kernels::HeadProgram> heads_;
  std::vector<kernels::PlanSegment> segments_;
  std::vector<int32_t> columns_;
  std::vector<uint32_t> bits_;
};

}  // namespace kvasir::bench
