#include "models/cpu_ops.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope_write/rope_write.h"
#include "models/attention_desc.h"

namespace kvasir::models {

using formats::ModelConfig;
using kernels::Epilogue;
using kernels::kPageTokens;

namespace {

// Elements from row to row of an activation. Rows at multiples of 2 KiB fall on few sets of the
// caches; a line between them spreads them (a product of k = 8,192 is half as fast again).
int64_t padded(int64_t size, int64_t element_bytes) {
  constexpr int64_t kAliasBytes = 2048, kLineBytes = 64;
  return size * element_bytes % kAliasBytes == 0 ? size + kLineBytes / element_bytes : size;
}

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Row `row` of a table on disk, as f32.
void read_row(const formats::TensorView& table, int64_t row, int64_t size, float* out) {
  const DType dtype = *table.dtype;
  const std::byte* source =
      table.data.data() + row * size * static_cast<int64_t>(dtype_bytes(dtype));
  if (dtype == DType::kF32) {
    std::memcpy(out, source, size * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < size; ++i) out[i] = read_f32(source, dtype, i);
}

}  // namespace

CpuOps::Buffers CpuOps::lay_out(const ModelConfig& config, DType dtype, int threads,
                                const ScratchOptions& options, std::byte* base) {
  Buffers buffers{};
  int64_t used = 0;
  const auto take = [&](auto*& pointer, int64_t bytes) {
    pointer =
        base ? reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + used) : nullptr;
    used += (bytes + 63) / 64 * 64;
  };
  const int64_t act = static_cast<int64_t>(dtype_bytes(dtype)), rows = options.max_rows;
  const int64_t logit_rows = options.max_logit_rows;
  const int64_t q_size = config.num_q_heads * config.head_dim;
  const int64_t kv_size = config.num_kv_heads * config.head_dim;
  take(buffers.residual, rows * config.hidden_size * 4);
  take(buffers.normed, rows * padded(config.hidden_size, act) * act);
  take(buffers.narrowed, logit_rows * config.hidden_size * act);
  take(buffers.heads, rows * (q_size + 2 * kv_size) * 4);
  take(buffers.narrow_heads, logit_rows * q_size * 4);
  take(buffers.queries, rows * q_size * act);
  take(buffers.mixed, rows * q_size * act);
  take(buffers.inner, rows * padded(config.intermediate_size, act) * act);
  if (has_output_norms(find_family(config))) take(buffers.outputs, rows * config.hidden_size * 4);
  take(buffers.workspace,
       static_cast<int64_t>(kernels::attention_workspace_bytes(
           attention_desc(config, dtype), rows,
           // Each may be cut in three, a sparse part between dense ones, of one row at least.
           std::min(rows, 3 * options.max_spans), options.max_length, threads)));
  // Last: pages beyond the rows in use are never touched.
  take(buffers.logits, logit_rows * config.vocab_size * 4);
  buffers.bytes = used;
  return buffers;
}

int64_t CpuOps::scratch_bytes(const ModelConfig& config, DType dtype, int threads,
                              const ScratchOptions& options) {
  return lay_out(config, dtype, threads, options, nullptr).bytes;
}

CpuOps::CpuOps(const kernels::CpuContext& context, const CpuWeights& weights,
               const kernels::PagePool& pages, const ScratchOptions& options)
    : context_(context),
      weights_(weights),
      pages_(pages),
      memory_(scratch_bytes(weights.config, weights.dtype, context.pool.size(), options)),
      buffers_(
          lay_out(weights.config, weights.dtype, context.pool.size(), options, memory_.data())),
      act_bytes_(static_cast<int64_t>(dtype_bytes(weights.dtype))),
      hidden_stride_(padded(weights.config.hidden_size, act_bytes_)),
      inner_stride_(padded(weights.config.intermediate_size, act_bytes_)),
      interleaved_rotary_(find_family(weights.config).has_interleaved_rotary) {}

void CpuOps::begin_step(const StepLayout& step, const CancelToken* cancel) {
  step_ = &step;
  context_.cancel = cancel;
  span_counts_.assign(step.spans.size(), {});
  attention_seconds_ = 0;
  slot_page_.resize(step.rows());
  slot_row_.resize(step.rows());
  const int64_t width =
      step.rows() == 0 ? 0 : static_cast<int64_t>(step.cos_sin.size()) / step.rows();
  narrow_cos_sin_.resize(step.logit_rows.size() * width);
  for (size_t i = 0; i < step.logit_rows.size(); ++i)
    std::copy_n(step.cos_sin.data() + step.logit_rows[i] * width, width,
                narrow_cos_sin_.data() + i * width);
  list_evicting_rows(width);
}

// The last rows of spans after which entries are evicted.
void CpuOps::list_evicting_rows(int64_t rotary_dim) {
  evicting_rows_.clear();
  for (const SpanLayout& span : step_->spans)
    if (span.compressor)
      for (int64_t i = std::min(span.rows, span.compressor->query_rows()); i > 0; --i)
        evicting_rows_.push_back(static_cast<int32_t>(span.first_row + span.rows - i));
  evicting_.cos_sin.resize(evicting_rows_.size() * static_cast<size_t>(rotary_dim));
  for (size_t i = 0; i < evicting_rows_.size(); ++i)
    std::copy_n(step_->cos_sin.data() + evicting_rows_[i] * rotary_dim, rotary_dim,
                evicting_.cos_sin.data() + i * rotary_dim);
}

void CpuOps::begin_layer(size_t index) {
  layer_index_ = index;
  for (const SpanLayout& span : step_->spans) {
    const uint32_t* table = span.page_tables[index];
    for (int64_t i = 0; i < span.rows; ++i) {
      const int64_t slot = span.first_slot(index) + i;
      slot_page_[span.first_row + i] = table[slot / kPageTokens];
      slot_row_[span.first_row + i] = static_cast<uint8_t>(slot % kPageTokens);
    }
  }
}

CpuOps::Residual CpuOps::embed() {
  const int64_t hidden = weights_.config.hidden_size, rows = step_->rows();
  const auto row = [&](int64_t index, int) {
    read_row(weights_.embedding, step_->tokens[index], hidden, buffers_.residual + index * hidden);
  };
  if (rows < 32)
    for (int64_t index = 0; index < rows; ++index) row(index, 0);
  else
    context_.pool.parallel(rows, row);
  return {buffers_.residual, rows};
}

CpuOps::Activation CpuOps::norm(Residual x, const std::vector<float>& weight) {
  kernels::run_rms_norm(context_,
                        {.x = static_cast<const float*>(x.data),
                         .weight = weight.data(),
                         .y = buffers_.normed,
                         .y_dtype = weights_.dtype,
                         .y_row_stride = hidden_stride_,
                         .rows = x.rows,
                         .size = weights_.config.hidden_size,
                         .eps = static_cast<float>(weights_.config.rms_norm_eps)},
                        weights_.isa);
  return {buffers_.normed, x.rows, hidden_stride_};
}

void CpuOps::gemm(Activation a, const PackedLinear& linear, Epilogue epilogue, void* c,
                  DType c_dtype, int64_t c_stride) {
  if (a.rows == 0) return;
  kernels::run_gemm(context_, {.a = a.data,
                               .a_row_stride = a.stride,
                               .m = a.rows,
                               .desc = linear.desc,
                               .weight = linear.weight,
                               .bias = linear.bias.empty() ? nullptr : linear.bias.data(),
                               .epilogue = epilogue,
                               .c = c,
                               .c_dtype = c_dtype,
                               .c_row_stride = c_stride});
}

CpuOps::Heads CpuOps::project_heads(Activation x, const Layer& layer, bool narrow) {
  if (!narrow) {
    gemm(x, layer.qkv, Epilogue::kStore, buffers_.heads, DType::kF32, layer.qkv.desc.n);
    return {buffers_.heads, x.rows};
  }
  gemm(x, layer.kv, Epilogue::kStore, buffers_.heads, DType::kF32, layer.kv.desc.n);
  project_evicting_queries(x, layer);
  const int64_t hidden = weights_.config.hidden_size;
  const auto& logit_rows = step_->logit_rows;
  for (size_t i = 0; i < logit_rows.size(); ++i)
    std::memcpy(buffers_.narrowed + i * hidden * act_bytes_,
                static_cast<const std::byte*>(x.data) + logit_rows[i] * x.stride * act_bytes_,
                hidden * act_bytes_);
  gemm({buffers_.narrowed, static_cast<int64_t>(logit_rows.size()), hidden}, layer.q,
       Epilogue::kStore, buffers_.narrow_heads, DType::kF32, layer.q.desc.n);
  return {buffers_.heads, x.rows};
}

void CpuOps::project_evicting_queries(Activation x, const Layer& layer) {
  if (evicting_rows_.empty()) return;
  const auto rows = static_cast<int64_t>(evicting_rows_.size());
  const int64_t row_bytes = weights_.config.hidden_size * act_bytes_;
  evicting_.inputs.resize(static_cast<size_t>(rows * row_bytes));
  for (int64_t i = 0; i < rows; ++i)
    std::memcpy(evicting_.inputs.data() + i * row_bytes,
                static_cast<const std::byte*>(x.data) + evicting_rows_[i] * x.stride * act_bytes_,
                row_bytes);
  evicting_.heads.resize(static_cast<size_t>(rows * layer.q.desc.n));
  gemm({evicting_.inputs.data(), rows, weights_.config.hidden_size}, layer.q, Epilogue::kStore,
       evicting_.heads.data(), DType::kF32, layer.q.desc.n);
}

// After the attention of a layer, which reads what is evicted.
void CpuOps::evict(bool narrow) {
  const int64_t q_row_bytes = weights_.config.num_q_heads * weights_.config.head_dim * act_bytes_;
  int64_t narrow_row = 0;
  for (const SpanLayout& span : step_->spans) {
    if (!span.compressor || stopped()) continue;
    const int64_t rows = std::min(span.rows, span.compressor->query_rows());
    const std::byte* q = narrow
                             ? evicting_.queries.data() + narrow_row * q_row_bytes
                             : buffers_.queries + (span.first_row + span.rows - rows) * q_row_bytes;
    narrow_row += rows;
    evict_entries(*span.compressor,
                  {.layer = static_cast<int>(layer_index_),
                   .entries = span.first_slot(layer_index_) + span.rows,
                   .q = q,
                   .q_row_stride = q_row_bytes / act_bytes_,
                   .rows = rows,
                   .q_heads = static_cast<int>(weights_.config.num_q_heads),
                   .scale = attention_scale(weights_.config),
                   .pages = pages_,
                   .page_table = span.page_tables[layer_index_],
                   .context = &context_},
                  span.kept[layer_index_], span.kept_tables[layer_index_]);
  }
}

// The rows of `work`, some of those of the step's span `index`, that have a plan.
prefill::RowRange CpuOps::plan_span(size_t index, const kernels::AttentionSpan& work,
                                    int64_t window) {
  const SpanLayout& span = step_->spans[index];
  if (!span.planner || work.rows == 0) return {};
  const double start = seconds();
  const int64_t q_size = weights_.config.num_q_heads * weights_.config.head_dim;
  plan_workspace_.clear();
  const prefill::Planned planned =
      span.planner->plan({.layer = static_cast<int>(layer_index_),
                          .q_heads = static_cast<int>(weights_.config.num_q_heads),
                          .query_offset = work.query_offset,
                          .rows = work.rows,
                          .prompt_length = span.prompt_length,
                          .window = window,
                          .q = buffers_.queries + work.first_row * q_size * act_bytes_,
                          .q_row_stride = q_size,
                          .scale = attention_scale(weights_.config),
                          .pages = pages_,
                          .page_table = work.page_table,
                          .context = &context_,
                          .workspace = &plan_workspace_},
                         plan_buffers_[index]);
  SpanCount& count = span_counts_[index];
  count.plan_seconds += seconds() - start;
  count.scored_pairs += planned.report.scored_pairs;
  count.dense_heads += planned.report.dense_heads;
  if (span.planner->plans_from_queries() && !planned.rows.empty())
    count.planned_heads += weights_.config.num_q_heads;
  if (!planned.rows.empty()) plans_[index] = plan_buffers_[index].view();
  return planned.rows;
}

void CpuOps::lay_out_attention(const Layer& layer, bool narrow) {
  attention_spans_.clear();
  span_of_attention_.clear();
  plan_buffers_.resize(std::max(plan_buffers_.size(), step_->spans.size()));
  plans_.resize(plan_buffers_.size());
  for (size_t i = 0; i < step_->spans.size(); ++i) {
    const SpanLayout& span = step_->spans[i];
    kernels::AttentionSpan work{.first_row = span.first_row,
                                .rows = span.rows,
                                .query_offset = span.first_slot(layer_index_),
                                .page_table = span.page_tables[layer_index_]};
    if (narrow) {
      work.first_row = span.first_logit_row;
      work.query_offset += span.rows - span.logit_rows;
      work.rows = span.logit_rows;
    }
    const prefill::RowRange sparse = plan_span(i, work, layer.window);
    const auto add = [&](int64_t first, int64_t last, const kernels::AttentionPlan* plan) {
      if (first >= last) return;
      attention_spans_.push_back({.first_row = work.first_row + first,
                                  .rows = last - first,
                                  .query_offset = work.query_offset + first,
                                  .page_table = work.page_table,
                                  .plan = plan});
      span_of_attention_.push_back(i);
    };
    add(0, sparse.first, nullptr);
    add(sparse.first, sparse.last, &plans_[i]);
    add(sparse.last, work.rows, nullptr);
  }
  layer_pairs_.assign(attention_spans_.size(), 0);
}

CpuOps::Activation CpuOps::attend(Heads heads, const Layer& layer, bool narrow) {
  const ModelConfig& config = weights_.config;
  const int64_t rows = narrow ? static_cast<int64_t>(step_->logit_rows.size()) : heads.rows;
  const int64_t q_size = config.num_q_heads * config.head_dim;
  kernels::RopeWriteArgs rope{
      .qkv = static_cast<const float*>(heads.data),
      .rows = heads.rows,
      .q_heads = narrow ? 0 : static_cast<int>(config.num_q_heads),
      .has_kv = true,
      .pages = pages_,
      .q_norm = layer.q_norm.empty() ? nullptr : layer.q_norm.data(),
      .k_norm = layer.k_norm.empty() ? nullptr : layer.k_norm.data(),
      .norm_eps = static_cast<float>(config.rms_norm_eps),
      .rotary_dim = static_cast<int>(step_->cos_sin.size() / std::max<int64_t>(1, step_->rows())),
      .interleaved = interleaved_rotary_,
      .cos_sin = step_->cos_sin.data(),
      .q_out = narrow ? nullptr : buffers_.queries,
      .slot_page = slot_page_.data(),
      .slot_row = slot_row_.data()};
  kernels::run_rope_write(context_, rope, weights_.isa);
  if (narrow && rows > 0) {
    rope.qkv = buffers_.narrow_heads;
    rope.rows = rows;
    rope.q_heads = static_cast<int>(config.num_q_heads);
    rope.has_kv = false;
    rope.cos_sin = narrow_cos_sin_.data();
    rope.q_out = buffers_.queries;
    kernels::run_rope_write(context_, rope, weights_.isa);
  }
  if (narrow && !evicting_rows_.empty()) {
    evicting_.queries.resize(evicting_rows_.size() * static_cast<size_t>(q_size * act_bytes_));
    rope.qkv = evicting_.heads.data();
    rope.rows = static_cast<int64_t>(evicting_rows_.size());
    rope.q_heads = static_cast<int>(config.num_q_heads);
    rope.has_kv = false;
    rope.cos_sin = evicting_.cos_sin.data();
    rope.q_out = evicting_.queries.data();
    kernels::run_rope_write(context_, rope, weights_.isa);
  }
  if (rows == 0) evict(narrow);
  if (rows == 0 || stopped()) return {buffers_.mixed, rows, q_size};

  lay_out_attention(layer, narrow);
  if (stopped()) return {buffers_.mixed, rows, q_size};
  if (observer_) observed_lse_.resize(static_cast<size_t>(rows * config.num_q_heads));
  const kernels::AttentionArgs attention{.q = buffers_.queries,
                                         .q_row_stride = q_size,
                                         .out = buffers_.mixed,
                                         .lse = observer_ ? observed_lse_.data() : nullptr,
                                         .pages = pages_,
                                         .q_heads = static_cast<int>(config.num_q_heads),
                                         .scale = attention_scale(config),
                                         .window = layer.window,
                                         .spans = attention_spans_,
                                         .deterministic = step_->deterministic,
                                         .workspace = buffers_.workspace,
                                         .scored_pairs = layer_pairs_.data()};
  const double start = seconds();
  kernels::run_attention(context_, attention, weights_.isa);
  attention_seconds_ += seconds() - start;
  if (observer_ && !stopped())
    observer_->on_attention(static_cast<int>(layer_index_), context_, attention);
  for (size_t i = 0; i < layer_pairs_.size(); ++i)
    span_counts_[span_of_attention_[i]].scored_pairs += layer_pairs_[i];
  evict(narrow);
  return {buffers_.mixed, rows, q_size};
}

CpuOps::Residual CpuOps::narrow(Residual x) {
  // In place: logit rows ascend, so row i moves down from a row at or above it.
  const int64_t hidden = weights_.config.hidden_size;
  float* data = static_cast<float*>(x.data);
  const auto& logit_rows = step_->logit_rows;
  for (size_t i = 0; i < logit_rows.size(); ++i)
    if (logit_rows[i] != static_cast<int32_t>(i))
      std::memmove(data + i * hidden, data + logit_rows[i] * hidden, hidden * sizeof(float));
  return {data, static_cast<int64_t>(logit_rows.size())};
}

void CpuOps::add_linear(Residual& x, Activation a, const PackedLinear& linear,
                        const std::vector<float>& norm) {
  const int64_t hidden = weights_.config.hidden_size;
  if (norm.empty()) {
    gemm(a, linear, Epilogue::kAdd, x.data, DType::kF32, hidden);
    return;
  }
  gemm(a, linear, Epilogue::kStore, buffers_.outputs, DType::kF32, hidden);
  kernels::run_rms_norm(context_,
                        {.x = buffers_.outputs,
                         .weight = norm.data(),
                         .y = x.data,
                         .y_dtype = DType::kF32,
                         .y_row_stride = hidden,
                         .rows = a.rows,
                         .size = hidden,
                         .eps = static_cast<float>(weights_.config.rms_norm_eps),
                         .accumulate = true},
                        weights_.isa);
}

CpuOps::Activation CpuOps::gated(Activation x, const Layer& layer) {
  gemm(x, layer.gate_up, Epilogue::kSiluMul, buffers_.inner, weights_.dtype, inner_stride_);
  return {buffers_.inner, x.rows, inner_stride_};
}

CpuOps::Logits CpuOps::head(Activation x) {
  if (observer_) return {};
  gemm(x, weights_.head, Epilogue::kStore, buffers_.logits, DType::kF32,
       weights_.config.vocab_size);
  return {buffers_.logits, x.rows};
}

}  // namespace kvasir::models
