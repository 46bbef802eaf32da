#include "prefill/planner.h"

namespace kvasir::prefill {

LayerQueries PlanSite::queries(int32_t row_tile) const {
  return {.layer = layer,
          .chunk = {.query_offset = query_offset, .rows = rows, .row_tile = row_tile},
          .q = q,
          .q_row_stride = q_row_stride,
          .q_heads = q_heads,
          .scale = scale,
          .pages = pages,
          .page_table = page_table};
}

Planned QueryPlanner::plan(const PlanSite& site, PlanBuffer& plan) const {
  if (!can_plan_from_queries(site.rows, site.window)) return {};
  plan.clear();
  plan.row_tile = row_tile_;
  return {.rows = {0, site.rows}, .report = plan_heads(site, site.queries(row_tile_), plan)};
}

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
