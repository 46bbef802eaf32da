#include "models/planned_attention_cuda.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "kernels/vertical_slash/vertical_slash.h"
#include "kernels/vertical_slash/vertical_slash_cuda.h"
#include "models/attention_desc.h"

namespace kvasir::models {
namespace {

constexpr int64_t kMostParts = 3;           // dense rows, those with the plan, dense rows
constexpr size_t kStaticSegments = 8;       // of a plan that follows from positions
constexpr int64_t kSumBytes = 128ll << 20;  // column and offset sums held at once, if one unit fits
// Beyond what the published head configurations ask for (22,032 and 24,528).
constexpr kernels::VerticalSlashBudgets kMost{.most_columns = 32768, .most_offsets = 32768};

constexpr size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

PlannedAttention::Sizes PlannedAttention::sizes_of(const cuda::Context& context,
                                                   const formats::ModelConfig& config, DType dtype,
                                                   const ScratchOptions& options) {
  Sizes sizes{.layers = static_cast<int>(config.num_layers),
              .q_heads = static_cast<int>(config.num_q_heads),
              .kv_heads = static_cast<int>(config.num_kv_heads),
              .max_spans = options.max_spans,
              .max_length = options.max_length};
  sizes.sums_row_stride = (options.max_length + 63) / 64 * 64;
  const int group = sizes.q_heads / sizes.kv_heads;
  const int64_t unit_bytes =
      group * sizes.sums_row_stride * 2 * static_cast<int64_t>(sizeof(float));
  sizes.units = static_cast<int>(std::clamp<int64_t>(kSumBytes / unit_bytes, 1, sizes.kv_heads));
  sizes.segments = kernels::vertical_slash_segments(kMost, options.max_length, 128);
  sizes.columns = static_cast<int32_t>(std::min<int64_t>(kMost.most_columns, options.max_length));
  sizes.attention = kernels::prefill_attention_workspace_bytes(
      attention_desc(config, dtype), context, kMostParts, options.max_rows, true);
  sizes.estimate = kernels::vertical_slash_workspace_bytes(group, sizes.units, options.max_length);
  sizes.index = kernels::vertical_slash_index_workspace_bytes(kMost, group, sizes.units);
  const size_t heads = static_cast<size_t>(sizes.q_heads);
  sizes.staging =
      static_cast<size_t>(sizes.layers * sizes.max_spans) *
          ((kMostParts + 1) * sizeof(kernels::CudaAttentionSpan) +
           sizeof(kernels::CudaAttentionPlan) + heads * sizeof(kernels::HeadBudget) +
           heads * sizeof(kernels::HeadProgram) + kStaticSegments * sizeof(kernels::PlanSegment)) +
      5 * 256;
  return sizes;
}

PlannedAttention::Buffers PlannedAttention::lay_out(const Sizes& sizes, std::byte* base) {
  Buffers buffers{};
  size_t used = 0;
  const auto take = [&](auto*& pointer, size_t count) {
    using T = std::remove_pointer_t<std::remove_reference_t<decltype(pointer)>>;
    pointer = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += aligned(count * sizeof(T));
  };
  const auto heads = static_cast<size_t>(sizes.q_heads);
  const size_t spans = static_cast<size_t>(sizes.max_spans);
  const size_t sums = static_cast<size_t>(sizes.units) * heads /
                      static_cast<size_t>(sizes.kv_heads) *
                      static_cast<size_t>(sizes.sums_row_stride);
  take(buffers.attention, sizes.attention);
  take(buffers.estimate, sizes.estimate);
  take(buffers.index, sizes.index);
  take(buffers.staging, sizes.staging);
  take(buffers.column_sums, sums);
  take(buffers.offset_sums, sums);
  take(buffers.arrays.programs, heads);
  take(buffers.arrays.segments, heads * static_cast<size_t>(sizes.segments));
  take(buffers.arrays.columns, heads * static_cast<size_t>(sizes.columns));
  take(buffers.arrays.reports, static_cast<size_t>(sizes.layers) * spans * heads);
  take(buffers.scored_pairs, spans * kMostParts);
  buffers.arrays.head_segments = sizes.segments;
  buffers.arrays.head_columns = sizes.columns;
  buffers.arrays.row_tile = 128;
  buffers.bytes = used;
  return buffers;
}

int64_t PlannedAttention::device_bytes(const cuda::Context& context,
                                       const formats::ModelConfig& config, DType dtype,
                                       const ScratchOptions& options) {
  return static_cast<int64_t>(lay_out(sizes_of(context, config, dtype, options), nullptr).bytes);
}

PlannedAttention::PlannedAttention(const cuda::Context& context, const formats::ModelConfig& config,
                                   DType dtype, std::vector<int64_t> windows,
                                   const ScratchOptions& options)
    : context_(context),
      desc_(attention_desc(config, dtype)),
      windows_(std::move(windows)),
      sizes_(sizes_of(context, config, dtype, options)),
      memory_(lay_out(sizes_, nullptr).bytes),
      buffers_(lay_out(sizes_, memory_.data())),
      parts_(static_cast<size_t>(sizes_.layers)) {
  // The workspace of attention holds counters that begin at zero and go back to it.
  KVASIR_CUDA(cudaMemsetAsync(memory_.data(), 0, memory_.bytes(), context_.stream));
}

void PlannedAttention::begin_step(std::span<const PlannedSpan> spans,
                                  std::span<const PlannedSpan> last) {
  counts_.clear();
  spans_.clear();
  plans_.clear();
  budgets_.clear();
  static_plans_.clear();
  static_heads_.clear();
  static_segments_.clear();
  if (spans.empty()) return;
  KVASIR_CHECK(std::ssize(spans) <= sizes_.max_spans);
  for (const PlannedSpan& span : spans) counts_.push_back({.step_span = span.step_span});
  for (size_t layer = 0; layer < parts_.size(); ++layer) {
    parts_[layer].clear();
    for (const PlannedSpan& span : layer + 1 == parts_.size() ? last : spans) {
      const auto count = std::ranges::find(counts_, span.step_span, &Count::step_span);
      parts_[layer].push_back(part_of(span, layer, static_cast<size_t>(count - counts_.begin())));
    }
  }
  upload();
}

PlannedAttention::Part PlannedAttention::part_of(const PlannedSpan& planned, size_t layer,
                                                 size_t count_index) {
  Count& count = counts_[count_index];
  const kernels::CudaAttentionSpan& span = planned.span;
  const int64_t window = windows_[layer];
  Part part{.first_span = spans_.size(),
            .count = count_index,
            .rows = span.rows,
            .length = int64_t{span.query_offset} + span.rows};
  prefill::RowRange sparse;
  if (const auto recipe = planned.planner->gpu_recipe(static_cast<int>(layer))) {
    if (window == 0 && span.rows >= prefill::kFewestPlannedRows) {
      sparse = {0, span.rows};
      part.from_queries = true;
      part.budgets = budgets_.size();
      part.mass = recipe->mass;
      part.densest = recipe->densest;
      budgets_.insert(budgets_.end(), recipe->heads.begin(), recipe->heads.end());
      count.planned_heads += sizes_.q_heads;
      count.scored_pairs +=
          static_cast<uint64_t>(2 * sizes_.q_heads * part.length *
                                std::min<int64_t>(kernels::kEstimateQueries, span.rows));
    }
  } else {
    sparse = planned.planner
                 ->plan({.layer = static_cast<int>(layer),
                         .q_heads = sizes_.q_heads,
                         .query_offset = span.query_offset,
                         .rows = span.rows,
                         .prompt_length = planned.prompt_length},
                        plan_buffer_)
                 .rows;
  }
  const auto add = [&](int64_t first, int64_t end, int32_t plan) {
    if (first >= end) return;
    kernels::CudaAttentionSpan piece = span;
    piece.first_row += static_cast<int32_t>(first);
    piece.query_offset += static_cast<int32_t>(first);
    piece.rows = static_cast<int32_t>(end - first);
    piece.plan = plan;
    spans_.push_back(piece);
    ++part.spans;
    if (plan < 0)
      count.scored_pairs +=
          static_cast<uint64_t>(sizes_.q_heads) *
          kernels::prefill_attention_pairs(desc_, context_, piece.query_offset, piece.rows, window);
  };
  add(0, sparse.first, -1);
  add(sparse.first, sparse.last, 0);
  add(sparse.last, span.rows, -1);
  part.has_plan = !sparse.empty();
  if (!part.has_plan) return part;
  part.plan = plans_.size();
  if (part.from_queries) {
    plans_.push_back(buffers_.arrays.plan(0, sizes_.q_heads));
    return part;
  }
  KVASIR_CHECK(plan_buffer_.columns.empty() && plan_buffer_.block_bits.empty() &&
                   plan_buffer_.segments.size() <= kStaticSegments,
               "a plan that follows from positions is small");
  static_plans_.push_back(
      {.plan = plans_.size(), .heads = static_heads_.size(), .segments = static_segments_.size()});
  static_heads_.insert(static_heads_.end(), plan_buffer_.heads.begin(), plan_buffer_.heads.end());
  static_segments_.insert(static_segments_.end(), plan_buffer_.segments.begin(),
                          plan_buffer_.segments.end());
  plans_.push_back({.row_tile = plan_buffer_.row_tile});
  return part;
}

// One copy for the whole step.
void PlannedAttention::upload() {
  if (staging_.bytes() == 0) staging_ = cuda::PinnedMemory(sizes_.staging);
  size_t used = 0;
  const auto put = [&]<class T>(const std::vector<T>& values) {
    const size_t bytes = values.size() * sizeof(T);
    KVASIR_CHECK(used + bytes <= sizes_.staging);
    if (bytes > 0) std::memcpy(staging_.data() + used, values.data(), bytes);
    const auto* device = reinterpret_cast<const T*>(buffers_.staging + used);
    used = aligned(used + bytes);
    return device;
  };
  const kernels::HeadProgram* heads = put(static_heads_);
  const kernels::PlanSegment* segments = put(static_segments_);
  for (const StaticPlan& each : static_plans_) {
    plans_[each.plan].heads = heads + each.heads;
    plans_[each.plan].segments = segments + each.segments;
  }
  device_spans_ = put(spans_);
  device_plans_ = put(plans_);
  device_budgets_ = put(budgets_);
  KVASIR_CUDA(cudaMemcpyAsync(buffers_.staging, staging_.data(), used, cudaMemcpyHostToDevice,
                              context_.stream));
  KVASIR_CUDA(cudaMemsetAsync(buffers_.scored_pairs, 0,
                              counts_.size() * kMostParts * sizeof(uint64_t), context_.stream));
}

void PlannedAttention::attend(size_t layer, const kernels::CudaAttentionArgs& attention) {
  for (const Part& part : parts_[layer]) {
    if (part.spans == 0) continue;
    kernels::CudaAttentionArgs args = attention;
    args.spans = device_spans_ + part.first_span;
    args.span_count = part.spans;
    args.plans = part.has_plan ? device_plans_ + part.plan : nullptr;
    args.plan_count = part.has_plan ? 1 : 0;
    args.scored_pairs = buffers_.scored_pairs + part.count * kMostParts;
    args.max_rows = part.rows;
    args.max_length = part.length;
    args.workspace = buffers_.attention;
    if (part.from_queries) estimate(part, layer * counts_.size() + part.count, args);
    kernels::build_prefill_attention(context_, args);
    kernels::build_prefill_plans(context_, args);
    kernels::run_prefill_attention(context_, args);
  }
}

void PlannedAttention::estimate(const Part& part, size_t report,
                                const kernels::CudaAttentionArgs& attention) {
  kernels::CudaPlanArrays arrays = buffers_.arrays;
  arrays.reports += report * static_cast<size_t>(sizes_.q_heads);
  const kernels::CudaAttentionSpan* span = device_spans_ + part.first_span;
  kernels::VerticalSlashBudgets budgets = kMost;
  budgets.mass = part.mass;
  for (int first = 0; first < sizes_.kv_heads; first += sizes_.units) {
    const int units = std::min(sizes_.units, sizes_.kv_heads - first);
    kernels::run_vertical_slash(context_, {.q = attention.q,
                                           .q_row_stride = attention.q_row_stride,
                                           .pages = attention.pages,
                                           .q_heads = sizes_.q_heads,
                                           .scale = attention.scale,
                                           .heads = device_budgets_ + part.budgets,
                                           .spans = span,
                                           .page_tables = attention.page_tables,
                                           .first_unit = first,
                                           .units = units,
                                           .max_length = part.length,
                                           .column_sums = buffers_.column_sums,
                                           .offset_sums = buffers_.offset_sums,
                                           .sums_row_stride = sizes_.sums_row_stride,
                                           .workspace = buffers_.estimate});
    kernels::run_vertical_slash_index(context_, {.column_sums = buffers_.column_sums,
                                                 .offset_sums = buffers_.offset_sums,
                                                 .sums_row_stride = sizes_.sums_row_stride,
                                                 .heads = device_budgets_ + part.budgets,
                                                 .budgets = budgets,
                                                 .densest = part.densest,
                                                 .q_heads = sizes_.q_heads,
                                                 .kv_heads = sizes_.kv_heads,
                                                 .spans = span,
                                                 .first_unit = first,
                                                 .units = units,
                                                 .max_length = part.length,
                                                 .plan = arrays,
                                                 .workspace = buffers_.index});
  }
}

std::vector<PlannedAttention::Count> PlannedAttention::counts() {
  if (counts_.empty()) return {};
  const size_t spans = counts_.size(), heads = static_cast<size_t>(sizes_.q_heads);
  const size_t pair_bytes = aligned(spans * kMostParts * sizeof(uint64_t));
  const size_t reports = parts_.size() * spans * heads;
  const size_t wanted = pair_bytes + reports * sizeof(kernels::HeadReport);
  if (read_back_.bytes() < wanted) read_back_ = cuda::PinnedMemory(wanted);
  KVASIR_CUDA(cudaMemcpyAsync(read_back_.data(), buffers_.scored_pairs,
                              spans * kMostParts * sizeof(uint64_t), cudaMemcpyDeviceToHost,
                              context_.stream));
  KVASIR_CUDA(cudaMemcpyAsync(read_back_.data() + pair_bytes, buffers_.arrays.reports,
                              reports * sizeof(kernels::HeadReport), cudaMemcpyDeviceToHost,
                              context_.stream));
  KVASIR_CUDA(cudaStreamSynchronize(context_.stream));
  const auto* pairs = reinterpret_cast<const uint64_t*>(read_back_.data());
  const auto* report = reinterpret_cast<const kernels::HeadReport*>(read_back_.data() + pair_bytes);
  std::vector<Count> counts = counts_;
  for (size_t layer = 0; layer < parts_.size(); ++layer)
    for (const Part& part : parts_[layer])
      if (part.from_queries)
        for (size_t head = 0; head < heads; ++head)
          counts[part.count].dense_heads +=
              report[(layer * spans + part.count) * heads + head].is_dense;
  for (size_t i = 0; i < spans; ++i)
    for (size_t part = 0; part < static_cast<size_t>(kMostParts); ++part)
      counts[i].scored_pairs += pairs[i * kMostParts + part];
  return counts;
}

}  // namespace kvasir::models
