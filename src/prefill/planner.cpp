#include "prefill/planner.h"

namespace kvasir::prefill {

void PlanBuffer::clear() {
  heads.clear();
  segments.clear();
  columns.clear();
  block_bits.clear();
}

kernels::AttentionPlan PlanBuffer::view() const {
  return {.row_tile = row_tile,
          .heads = heads,
          .segments = segments,
          .columns = columns,
          .block_bits = block_bits};
}

}  // namespace kvasir::prefill
