#include "models/planned_attention_cuda.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "models/attention_desc.h"
#include "prefill/estimate_pairs.h"
#include "prefill/flexprefill/flexprefill.h"

namespace kvasir::models {
namespace {

constexpr int64_t kMostParts = 3;      // dense rows, those with the plan, dense rows
constexpr size_t kStaticSegments = 8;  // of a plan that follows from positions
constexpr int kRowTile = 128;
// Beyond what the published head configurations ask for (22,032 and 24,528).
constexpr int64_t kMostColumns = 32768, kMostOffsets = 32768;

constexpr size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};

}  // namespace

kernels::MinferenceBounds PlannedAttention::minference_bounds(const Sizes& sizes, int64_t rows,
                                                              int64_t length) {
  const auto most = [&sizes](int64_t count) {
    return static_cast<int32_t>(std::min(count, sizes.max_length));
  };
  return {.q_heads = sizes.q_heads,
          .kv_heads = sizes.kv_heads,
          .head_dim = sizes.head_dim,
          .span_count = 1,
          .max_rows = rows,
          .max_length = length,
          .row_tile = kRowTile,
          .budgets = {.most_columns = most(kMostColumns), .most_offsets = most(kMostOffsets)},
          .has_vertical_slash = true,
          .has_block_sparse = true};
}

kernels::XAttentionBounds PlannedAttention::xattention_bounds(const Sizes& sizes, int stride,
                                                              int64_t rows, int64_t length) {
  return {.q_heads = sizes.q_heads,
          .kv_heads = sizes.kv_heads,
          .span_count = 1,
          .max_rows = rows,
          .max_length = length,
          .stride = stride};
}

kernels::FlexPrefillBounds PlannedAttention::flexprefill_bounds(const Sizes& sizes, int64_t rows,
                                                                int64_t length) {
  return {.q_heads = sizes.q_heads,
          .kv_heads = sizes.kv_heads,
          .head_dim = sizes.head_dim,
          .span_count = 1,
          .max_rows = rows,
          .max_length = length};
}

PlannedAttention::Sizes PlannedAttention::sizes_of(const cuda::Context& context,
                                                   const formats::ModelConfig& config, DType dtype,
                                                   const ScratchOptions& options) {
  Sizes sizes{.layers = static_cast<int>(config.num_layers),
              .q_heads = static_cast<int>(config.num_q_heads),
              .kv_heads = static_cast<int>(config.num_kv_heads),
              .head_dim = static_cast<int>(config.head_dim),
              .max_spans = options.max_spans,
              .max_length = options.max_length};
  sizes.attention = kernels::prefill_attention_workspace_bytes(
      attention_desc(config, dtype), context, kMostParts, options.max_rows, true);
  const auto take = [&sizes](const kernels::CudaPlanArrays& arrays, size_t workspace) {
    sizes.segments = std::max(sizes.segments, arrays.head_segments);
    sizes.columns = std::max(sizes.columns, arrays.head_columns);
    sizes.words = std::max(sizes.words, arrays.head_words);
    sizes.planner = std::max(sizes.planner, workspace);
  };
  const auto minference = minference_bounds(sizes, options.max_rows, options.max_length);
  take(kernels::minference_plan_sizes(minference),
       kernels::minference_plan_workspace_bytes(minference));
  for (const int stride : {8, 16}) {
    const auto xattention = xattention_bounds(sizes, stride, options.max_rows, options.max_length);
    take(kernels::xattention_plan_sizes(xattention),
         kernels::xattention_plan_workspace_bytes(xattention));
  }
  const auto flexprefill = flexprefill_bounds(sizes, options.max_rows, options.max_length);
  take(kernels::flexprefill_plan_sizes(flexprefill),
       kernels::flexprefill_plan_workspace_bytes(flexprefill));
  const size_t heads = static_cast<size_t>(sizes.q_heads);
  sizes.staging =
      static_cast<size_t>(sizes.layers * sizes.max_spans) *
          ((kMostParts + 1) * sizeof(kernels::CudaAttentionSpan) +
           sizeof(kernels::CudaAttentionPlan) +
           heads * (sizeof(kernels::HeadBudget) + sizeof(float) + sizeof(kernels::HeadProgram)) +
           kStaticSegments * sizeof(kernels::PlanSegment)) +
      6 * 256;
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
  take(buffers.attention, sizes.attention);
  take(buffers.planner, sizes.planner);
  take(buffers.staging, sizes.staging);
  take(buffers.arrays.programs, heads);
  take(buffers.arrays.segments, heads * static_cast<size_t>(sizes.segments));
  take(buffers.arrays.columns, heads * static_cast<size_t>(sizes.columns));
  take(buffers.arrays.block_bits, heads * static_cast<size_t>(sizes.words));
  take(buffers.arrays.reports, static_cast<size_t>(sizes.layers) * spans * heads);
  take(buffers.scored_pairs, spans * kMostParts);
  buffers.arrays.head_segments = sizes.segments;
  buffers.arrays.head_columns = sizes.columns;
  buffers.arrays.head_words = sizes.words;
  buffers.arrays.row_tile = kRowTile;
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
  timeline_.clear();
  layer_times_.clear();
  plan_times_.clear();
  counts_.clear();
  spans_.clear();
  plans_.clear();
  budgets_.clear();
  shares_.clear();
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

// Where the heads' options lie that the recipe has: budgets or shares.
size_t PlannedAttention::take_options(const prefill::GpuRecipe& recipe) {
  if (const auto* minference = std::get_if<prefill::MinferenceRecipe>(&recipe)) {
    budgets_.insert(budgets_.end(), minference->heads.begin(), minference->heads.end());
    return budgets_.size() - minference->heads.size();
  }
  if (const auto* xattention = std::get_if<prefill::XAttentionRecipe>(&recipe)) {
    const auto heads = static_cast<size_t>(sizes_.q_heads);
    const auto& of_heads = xattention->head_thresholds;
    if (of_heads.empty())
      shares_.insert(shares_.end(), heads, xattention->threshold);
    else
      shares_.insert(shares_.end(), of_heads.begin(), of_heads.end());
    return shares_.size() - heads;
  }
  return 0;
}

uint64_t PlannedAttention::estimated_pairs(const prefill::GpuRecipe& recipe,
                                           const prefill::Chunk& chunk) const {
  const auto heads = static_cast<uint64_t>(sizes_.q_heads);
  const auto minference = [&](const prefill::MinferenceRecipe& method) {
    uint64_t pairs = 0;
    for (const kernels::HeadBudget& head : method.heads)
      if (head.kind == kernels::HeadKind::kVerticalSlash)
        pairs += prefill::last_query_pairs(chunk);
      else if (head.kind == kernels::HeadKind::kBlockSparse)
        pairs += prefill::mean_pairs(chunk, kernels::kPageTokens);
    return pairs;
  };
  const auto xattention = [&](const prefill::XAttentionRecipe& method) {
    return heads * prefill::antidiagonal_pairs(chunk, method.stride);
  };
  const auto flexprefill = [&](const prefill::FlexPrefillRecipe& method) -> uint64_t {
    const int64_t blocks = prefill::flexprefill::blocks_of(chunk.length());
    if (blocks <= prefill::flexprefill::dense_blocks(method.min_blocks)) return 0;
    return heads * (prefill::last_query_pairs(chunk, prefill::flexprefill::kBlock) +
                    static_cast<uint64_t>(blocks));
  };
  return std::visit(Overloaded{minference, xattention, flexprefill}, recipe);
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
    if (prefill::can_plan_from_queries(span.rows, window)) {
      sparse = {0, span.rows};
      part.recipe = recipe;
      part.options = take_options(*recipe);
      count.planned_heads += sizes_.q_heads;
      count.scored_pairs += estimated_pairs(
          *recipe, {.query_offset = span.query_offset, .rows = span.rows, .row_tile = kRowTile});
    }
  } else {
    sparse = planned.planner
                 ->plan({.layer = static_cast<int>(layer),
                         .q_heads = sizes_.q_heads,
                         .query_offset = span.query_offset,
                         .rows = span.rows,
                         .prompt_length = planned.prompt_length,
                         .window = window},
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
  if (part.recipe) {
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
  device_shares_ = put(shares_);
  KVASIR_CUDA(cudaMemcpyAsync(buffers_.staging, staging_.data(), used, cudaMemcpyHostToDevice,
                              context_.stream));
  KVASIR_CUDA(cudaMemsetAsync(buffers_.scored_pairs, 0,
                              counts_.size() * kMostParts * sizeof(uint64_t), context_.stream));
}

void PlannedAttention::begin_layer() {
  layer_times_.push_back({.first = timeline_.mark(context_.stream)});
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
    if (part.recipe) {
      Interval time{.first = timeline_.mark(context_.stream), .count = part.count};
      make_plan(part, layer * counts_.size() + part.count, args);
      time.last = timeline_.mark(context_.stream);
      plan_times_.push_back(time);
    }
    kernels::build_prefill_attention(context_, args);
    kernels::build_prefill_plans(context_, args);
    kernels::run_prefill_attention(context_, args);
  }
  layer_times_.back().last = timeline_.mark(context_.stream);
}

void PlannedAttention::make_plan(const Part& part, size_t report,
                                 const kernels::CudaAttentionArgs& attention) {
  kernels::CudaPlanArrays arrays = buffers_.arrays;
  arrays.reports += report * static_cast<size_t>(sizes_.q_heads);
  const kernels::CudaAttentionSpan* span = device_spans_ + part.first_span;
  const auto minference = [&](const prefill::MinferenceRecipe& recipe) {
    kernels::MinferenceBounds bounds = minference_bounds(sizes_, part.rows, part.length);
    bounds.budgets.mass = recipe.mass;
    const auto has = [&recipe](kernels::HeadKind kind) {
      return std::ranges::find(recipe.heads, kind, &kernels::HeadBudget::kind) !=
             recipe.heads.end();
    };
    bounds.has_vertical_slash = has(kernels::HeadKind::kVerticalSlash);
    bounds.has_block_sparse = has(kernels::HeadKind::kBlockSparse);
    kernels::run_minference_plan(context_, {.q = attention.q,
                                            .q_row_stride = attention.q_row_stride,
                                            .pages = attention.pages,
                                            .scale = attention.scale,
                                            .heads = device_budgets_ + part.options,
                                            .spans = span,
                                            .page_tables = attention.page_tables,
                                            .bounds = bounds,
                                            .densest = recipe.densest,
                                            .blocks = recipe.blocks,
                                            .plan = arrays,
                                            .workspace = buffers_.planner});
  };
  const auto xattention = [&](const prefill::XAttentionRecipe& recipe) {
    kernels::run_xattention_plan(
        context_, {.q = attention.q,
                   .q_row_stride = attention.q_row_stride,
                   .pages = attention.pages,
                   .scale = attention.scale,
                   .shares = device_shares_ + part.options,
                   .spans = span,
                   .page_tables = attention.page_tables,
                   .bounds = xattention_bounds(sizes_, recipe.stride, part.rows, part.length),
                   .densest = recipe.densest,
                   .plan = arrays,
                   .workspace = buffers_.planner});
  };
  const auto flexprefill = [&](const prefill::FlexPrefillRecipe& recipe) {
    kernels::run_flexprefill_plan(context_,
                                  {.q = attention.q,
                                   .q_row_stride = attention.q_row_stride,
                                   .pages = attention.pages,
                                   .scale = attention.scale,
                                   .spans = span,
                                   .page_tables = attention.page_tables,
                                   .bounds = flexprefill_bounds(sizes_, part.rows, part.length),
                                   .gamma = recipe.gamma,
                                   .tau = recipe.tau,
                                   .min_blocks = recipe.min_blocks,
                                   .densest = recipe.densest,
                                   .plan = arrays,
                                   .workspace = buffers_.planner});
  };
  std::visit(Overloaded{minference, xattention, flexprefill}, *part.recipe);
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
      if (part.recipe)
        for (size_t head = 0; head < heads; ++head) {
          const kernels::HeadReport& found = report[(layer * spans + part.count) * heads + head];
          counts[part.count].dense_heads += found.is_dense;
          if (found.is_query_aware != 0)
            counts[part.count].scored_pairs += prefill::mean_pairs(
                {.query_offset = part.length - part.rows, .rows = part.rows, .row_tile = kRowTile},
                prefill::flexprefill::kBlock);
        }
  for (size_t i = 0; i < spans; ++i)
    for (size_t part = 0; part < static_cast<size_t>(kMostParts); ++part)
      counts[i].scored_pairs += pairs[i * kMostParts + part];
  double attention = 0;
  for (const Interval& time : layer_times_) attention += timeline_.seconds(time.first, time.last);
  for (const Interval& time : plan_times_) {
    const double seconds = timeline_.seconds(time.first, time.last);
    counts[time.count].plan_seconds += seconds;
    attention -= seconds;
  }
  for (Count& count : counts) count.attention_seconds = attention;
  return counts;
}

}  // namespace kvasir::models
