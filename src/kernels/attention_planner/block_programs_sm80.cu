#include "kernels/attention_planner/block_programs_cuda.h"
#include "kernels/cuda_device.cuh"

namespace kvasir::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) begin(BlockProgramsArgs args) {
  wait_for_inputs();
  let_next_begin();
  const int index = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (index >= args.q_heads) return;
  const CudaAttentionSpan span = args.spans[args.span];
  const int64_t head = int64_t{args.span} * args.q_heads + index;
  const auto first = static_cast<int32_t>(head * args.plan.head_segments);
  args.plan.programs[head] = {.first = first, .count = span.rows > 0 ? 1 : 0};
  args.plan.segments[first] = {.kind = SegmentKind::kBlocks,
                               .first = static_cast<int32_t>(head * args.plan.head_words),
                               .count = (span.query_offset + span.rows + 2047) / 2048};
  args.plan.reports[head] = {};
}

__global__ void __launch_bounds__(kThreads) end(BlockProgramsArgs args, double densest) {
  wait_for_inputs();
  let_next_begin();
  const int index = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (index >= args.q_heads || args.spans[args.span].rows == 0) return;
  const int64_t head = int64_t{args.span} * args.q_heads + index;
  HeadReport& report = args.plan.reports[head];
  if (report.is_dense == 0 &&
      static_cast<double>(report.pairs) / static_cast<double>(report.dense_pairs) <= densest)
    return;
  args.plan.segments[args.plan.programs[head].first] = {.count = kNoBound};
  report.pairs = report.dense_pairs;
  report.is_dense = 1;
}

dim3 grid_of(const BlockProgramsArgs& args) {
  return static_cast<unsigned>((args.q_heads + kThreads - 1) / kThreads);
}

}  // namespace

void begin_block_programs(const cuda::Context& context, const BlockProgramsArgs& args) {
  launch(context, begin, grid_of(args), kThreads, 0, args);
}

void end_block_programs(const cuda::Context& context, const BlockProgramsArgs& args,
                        double densest) {
  launch(context, end, grid_of(args), kThreads, 0, args, densest);
}

}  // namespace kvasir::kernels
