#include "models/ops_cuda.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>
#include <type_traits>

#include "base/check.h"
#include "kernels/embed/embed_cuda.h"
#include "kernels/gated/gated_cuda.h"
#include "kernels/gather/gather_cuda.h"
#include "kernels/gemm/skinny_gemm_cuda.h"
#include "kernels/rms_norm/rms_norm_cuda.h"
#include "kernels/rope_write/rope_write_cuda.h"
#include "models/attention_desc.h"

namespace kvasir::models {

using formats::ModelConfig;
using kernels::Epilogue;

namespace {

std::vector<int64_t> windows_of(const CudaWeights& weights) {
  std::vector<int64_t> windows;
  for (const CudaLayerWeights& layer : weights.layers) windows.push_back(layer.window);
  return windows;
}

}  // namespace

CudaOps::Buffers CudaOps::lay_out(const cuda::Context& context, const ModelConfig& config,
                                  DType dtype, int rotary_dim, const ScratchOptions& options,
                                  std::byte* base) {
  Buffers buffers{};
  int64_t used = 0;
  const auto take = [&](auto*& pointer, int64_t bytes) {
    pointer =
        base ? reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + used) : nullptr;
    used += (bytes + 255) / 256 * 256;
  };
  const int64_t size = static_cast<int64_t>(dtype_bytes(dtype)), rows = options.max_rows;
  const int64_t logit_rows = options.max_logit_rows, hidden = config.hidden_size;
  const int64_t q_size = config.num_q_heads * config.head_dim;
  const int64_t kv_size = config.num_kv_heads * config.head_dim;
  const int64_t inner = config.intermediate_size;
  take(buffers.residual, rows * hidden * 4);
  take(buffers.narrow_residual, logit_rows * hidden * 4);
  take(buffers.outputs, has_output_norms(find_family(config)) ? rows * hidden * 4 : 0);
  take(buffers.cos_sin, rows * rotary_dim * 4);
  take(buffers.normed, rows * hidden * size);
  take(buffers.narrowed, logit_rows * hidden * size);
  take(buffers.heads, rows * (q_size + 2 * kv_size) * size);
  take(buffers.narrow_heads, logit_rows * q_size * size);
  take(buffers.queries, rows * q_size * size);
  take(buffers.mixed, rows * q_size * size);
  take(buffers.gate_up, rows * 2 * inner * size);
  take(buffers.inner, rows * inner * size);
  take(buffers.logits, logit_rows * config.vocab_size * 4);
  const kernels::AttentionDesc desc = attention_desc(config, dtype);
  const auto decode_bytes = static_cast<int64_t>(kernels::decode_attention_workspace_bytes(
      desc, context, options.max_spans, options.max_length));
  take(buffers.decode, decode_bytes);
  take(buffers.last_decode, decode_bytes);
  take(buffers.prefill, static_cast<int64_t>(kernels::prefill_attention_workspace_bytes(
                            desc, context, options.max_spans, rows)));
  take(buffers.last_prefill, static_cast<int64_t>(kernels::prefill_attention_workspace_bytes(
                                 desc, context, options.max_spans, logit_rows)));
  take(buffers.gemm, static_cast<int64_t>(kernels::WideGemm::kWorkspaceBytes));
  buffers.bytes = used;
  return buffers;
}

int64_t CudaOps::scratch_bytes(const cuda::Context& context, const ModelConfig& config, DType dtype,
                               int rotary_dim, const ScratchOptions& options) {
  return lay_out(context, config, dtype, rotary_dim, options, nullptr).bytes +
         PlannedAttention::device_bytes(context, config, dtype, options);
}

CudaOps::CudaOps(const cuda::Context& context, int device, const CudaWeights& weights,
                 const kernels::PagePool& pages, int64_t page_count, const CudaRotary& rotary,
                 const ScratchOptions& options)
    : context_(context),
      weights_(weights),
      pages_(pages),
      page_count_(page_count),
      rotary_(rotary),
      interleaved_rotary_(find_family(weights.config).has_interleaved_rotary),
      memory_(static_cast<size_t>(
          lay_out(context, weights.config, weights.dtype, rotary.rotary_dim, options, nullptr)
              .bytes)),
      buffers_(lay_out(context, weights.config, weights.dtype, rotary.rotary_dim, options,
                       memory_.data())),
      planned_attention_(context, weights.config, weights.dtype, windows_of(weights), options) {
  decode_.workspace = buffers_.decode;
  prefill_.workspace = buffers_.prefill;
  last_decode_.workspace = buffers_.last_decode;
  last_prefill_.workspace = buffers_.last_prefill;
  // Workspaces of attention hold counters that begin at zero and go back to it.
  KVASIR_CUDA(cudaMemsetAsync(memory_.data(), 0, memory_.bytes(), context_.stream));
  KVASIR_CUDA(cudaEventCreateWithFlags(&layer_begun_, cudaEventDisableTiming));
  loading_ = std::async(std::launch::async, [device, workspace = buffers_.gemm] {
    KVASIR_CUDA(cudaSetDevice(device));
    return std::make_unique<kernels::WideGemm>(workspace);
  });
}

CudaOps::~CudaOps() {
  cudaStreamSynchronize(context_.stream);
  cudaEventDestroy(layer_begun_);
}

kernels::WideGemm& CudaOps::wide_gemm() {
  if (loading_.valid()) wide_gemm_ = loading_.get();
  if (!wide_gemm_)
    throw Error(ErrorCode::kInternal, "cuBLASLt could not be loaded, as said before");
  return *wide_gemm_;
}

void CudaOps::begin_step(const DeviceStep& step) {
  step_ = &step;
  stopped_ = false;
  if (step.rows > 0)
    kernels::run_rope_angles(context_, {.positions = step.positions,
                                        .table_of_row = step.rope_table,
                                        .frequencies = step.frequencies,
                                        .factor = rotary_.factor,
                                        .rotary_dim = rotary_.rotary_dim,
                                        .rows = step.rows,
                                        .cos_sin = buffers_.cos_sin});
  // Attention is prepared by the first layer of each window.
  for (Work* work : {&decode_, &prefill_, &last_decode_, &last_prefill_}) work->window = -1;
  if (!step.captured)
    planned_attention_.begin_step(step.planned,
                                  step.every_row_has_logits() ? step.planned : step.last_planned);
}

void CudaOps::begin_layer(size_t index) {
  layer_index_ = index;
  if (step_->captured) return;
  // Two layers are queued at most, so that little is left to do once the step is cancelled.
  if (index > 0) {
    cudaError_t status;
    while ((status = cudaEventQuery(layer_begun_)) == cudaErrorNotReady && !stopped_) {
      stopped_ = step_->cancel && step_->cancel->cancelled();
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    if (!stopped_) KVASIR_CUDA(status);
  }
  stopped_ = stopped_ || (step_->cancel && step_->cancel->cancelled());
  KVASIR_CUDA(cudaEventRecord(layer_begun_, context_.stream));
}

CudaOps::Residual CudaOps::embed() {
  kernels::run_embed(context_, {.table = weights_.embedding,
                                .dtype = weights_.dtype,
                                .tokens = step_->tokens,
                                .rows = step_->rows,
                                .size = weights_.config.hidden_size,
                                .out = buffers_.residual});
  return {buffers_.residual, step_->rows};
}

CudaOps::Activation CudaOps::norm(Residual x, const float* weight) {
  const int64_t hidden = weights_.config.hidden_size;
  kernels::run_rms_norm(context_, {.x = x.data,
                                   .weight = weight,
                                   .y = buffers_.normed,
                                   .y_dtype = weights_.dtype,
                                   .rows = x.rows,
                                   .size = hidden,
                                   .eps = static_cast<float>(weights_.config.rms_norm_eps)});
  return {buffers_.normed, x.rows, hidden};
}

void CudaOps::gemm(Activation a, const DeviceLinear& linear, Epilogue epilogue, void* c,
                   DType c_dtype, int64_t c_columns) {
  if (a.rows == 0) return;
  if (a.rows > kernels::kSkinnyRows && !step_->deterministic) {
    wide_gemm().run(context_,
                    {.dtype = weights_.dtype,
                     .a = a.data,
                     .a_row_stride = a.columns,
                     .m = a.rows,
                     .weight = linear.weight,
                     .n = linear.n,
                     .k = linear.k,
                     .bias = c_dtype == DType::kF32 ? static_cast<const void*>(linear.bias)
                                                    : linear.narrow_bias,
                     .epilogue = epilogue,
                     .c = c,
                     .c_dtype = c_dtype,
                     .c_row_stride = c_columns});
    return;
  }
  // In blocks of rows: a row's bits do not depend on the others.
  const int64_t size = static_cast<int64_t>(dtype_bytes(weights_.dtype));
  const int64_t c_size = static_cast<int64_t>(dtype_bytes(c_dtype));
  for (int64_t row = 0; row < a.rows; row += kernels::kSkinnyRows)
    kernels::run_skinny_gemm(context_,
                             {.dtype = weights_.dtype,
                              .a = static_cast<const std::byte*>(a.data) + row * a.columns * size,
                              .a_row_stride = a.columns,
                              .m = std::min(kernels::kSkinnyRows, a.rows - row),
                              .weight = linear.weight,
                              .n = linear.n,
                              .k = linear.k,
                              .bias = linear.bias,
                              .epilogue = epilogue,
                              .c = static_cast<std::byte*>(c) + row * c_columns * c_size,
                              .c_dtype = c_dtype,
                              .c_row_stride = c_columns});
}

CudaOps::Heads CudaOps::project_heads(Activation x, const Layer& layer, bool narrow) {
  const ModelConfig& config = weights_.config;
  const int64_t q_size = config.num_q_heads * config.head_dim;
  if (!is_narrow(narrow)) {
    gemm(x, layer.qkv, Epilogue::kStore, buffers_.heads, weights_.dtype, layer.qkv.n);
    return {buffers_.heads, x.rows};
  }
  // The matrix's first rows make queries, the others keys and values.
  const int64_t size = static_cast<int64_t>(dtype_bytes(weights_.dtype));
  DeviceLinear q = layer.qkv, kv = layer.qkv;
  q.n = q_size;
  kv.n = layer.qkv.n - q_size;
  kv.weight += q_size * kv.k * size;
  if (kv.bias) {
    kv.bias += q_size;
    kv.narrow_bias += q_size * size;
  }
  gemm(x, kv, Epilogue::kStore, buffers_.heads, weights_.dtype, kv.n);
  kernels::run_gather(context_, {.x = x.data,
                                 .y = buffers_.narrowed,
                                 .row_bytes = x.columns * size,
                                 .row_index = step_->logit_row,
                                 .rows = step_->logit_rows});
  gemm({buffers_.narrowed, step_->logit_rows, x.columns}, q, Epilogue::kStore,
       buffers_.narrow_heads, weights_.dtype, q.n);
  return {buffers_.heads, x.rows};
}

void CudaOps::attend_spans(const DeviceSpans& decode, Work& decode_work, const DeviceSpans& prefill,
                           Work& prefill_work, int64_t window) {
  if (!step_->planned.empty()) planned_attention_.begin_layer();
  const kernels::CudaAttentionArgs by_one = attention_args(decode, decode_work.workspace, window);
  const kernels::CudaAttentionArgs by_many =
      attention_args(prefill, prefill_work.workspace, window);
  if (decode_work.window != window) kernels::build_decode_attention(context_, by_one);
  if (prefill_work.window != window) kernels::build_prefill_attention(context_, by_many);
  decode_work.window = prefill_work.window = window;
  kernels::run_decode_attention(context_, by_one);
  kernels::run_prefill_attention(context_, by_many);
  if (!step_->planned.empty())
    planned_attention_.attend(layer_index_, attention_args({}, nullptr, window));
}

kernels::CudaAttentionArgs CudaOps::attention_args(const DeviceSpans& spans, std::byte* workspace,
                                                   int64_t window) const {
  const ModelConfig& config = weights_.config;
  const int64_t q_size = config.num_q_heads * config.head_dim;
  return {
      .q = buffers_.queries,
      .q_row_stride = q_size,
      .out = buffers_.mixed,
      .out_row_stride = q_size,
      .lse = nullptr,
      .pages = pages_,
      .page_count = page_count_,
      .q_heads = static_cast<int>(config.num_q_heads),
      .scale = attention_scale(config),
      .window = window,
      .spans = spans.spans,
      .page_tables = step_->page_tables + static_cast<int64_t>(layer_index_) * step_->table_entries,
      .span_count = spans.count,
      .max_rows = spans.rows,
      .max_length = spans.max_length,
      .workspace = workspace};
}

CudaOps::Activation CudaOps::attend(Heads heads, const Layer& layer, bool narrow) {
  const ModelConfig& config = weights_.config;
  const bool apart = is_narrow(narrow);
  const int64_t q_size = config.num_q_heads * config.head_dim;
  kernels::CudaRopeWriteArgs rope{
      .qkv = heads.data,
      .rows = heads.rows,
      .q_heads = apart ? 0 : static_cast<int>(config.num_q_heads),
      .has_kv = true,
      .pages = pages_,
      .q_norm = layer.q_norm,
      .k_norm = layer.k_norm,
      .norm_eps = static_cast<float>(config.rms_norm_eps),
      .rotary_dim = rotary_.rotary_dim,
      .interleaved = interleaved_rotary_,
      .cos_sin = buffers_.cos_sin,
      .row_index = nullptr,
      .q_out = apart ? nullptr : buffers_.queries,
      .positions = step_->positions,
      .first_page = step_->first_page,
      .page_tables =
          step_->page_tables + static_cast<int64_t>(layer_index_) * step_->table_entries};
  kernels::run_rope_write(context_, rope);
  if (!apart) {
    attend_spans(step_->decode, decode_, step_->prefill, prefill_, layer.window);
    return {buffers_.mixed, heads.rows, q_size};
  }
  const int64_t rows = step_->logit_rows;
  if (rows > 0) {
    rope.qkv = buffers_.narrow_heads;
    rope.rows = rows;
    rope.q_heads = static_cast<int>(config.num_q_heads);
    rope.has_kv = false;
    rope.row_index = step_->logit_row;
    rope.q_out = buffers_.queries;
    rope.first_page = step_->logit_first_page;
    kernels::run_rope_write(context_, rope);
    attend_spans(step_->last_decode, last_decode_, step_->last_prefill, last_prefill_,
                 layer.window);
  }
  return {buffers_.mixed, rows, q_size};
}

CudaOps::Residual CudaOps::narrow(Residual x) {
  if (step_->every_row_has_logits()) return x;
  kernels::run_gather(context_, {.x = x.data,
                                 .y = buffers_.narrow_residual,
                                 .row_bytes = weights_.config.hidden_size * 4,
                                 .row_index = step_->logit_row,
                                 .rows = step_->logit_rows});
  return {buffers_.narrow_residual, step_->logit_rows};
}

void CudaOps::add_linear(Residual& x, Activation a, const DeviceLinear& linear, const float* norm) {
  const int64_t hidden = weights_.config.hidden_size;
  if (!norm) {
    gemm(a, linear, Epilogue::kAdd, x.data, DType::kF32, hidden);
    return;
  }
  gemm(a, linear, Epilogue::kStore, buffers_.outputs, DType::kF32, hidden);
  kernels::run_rms_norm(context_, {.x = buffers_.outputs,
                                   .weight = norm,
                                   .y = x.data,
                                   .y_dtype = DType::kF32,
                                   .rows = a.rows,
                                   .size = hidden,
                                   .eps = static_cast<float>(weights_.config.rms_norm_eps),
                                   .accumulate = true});
}

CudaOps::Activation CudaOps::gated(Activation x, const Layer& layer) {
  const int64_t inner = weights_.config.intermediate_size;
  if (x.rows <= kernels::kSkinnyRows || step_->deterministic) {
    gemm(x, layer.gate_up, Epilogue::kSiluMul, buffers_.inner, weights_.dtype, inner);
    return {buffers_.inner, x.rows, inner};
  }
  DeviceLinear product = layer.gate_up;
  product.bias = nullptr;  // added in f32 below
  product.narrow_bias = nullptr;
  gemm(x, product, Epilogue::kStore, buffers_.gate_up, weights_.dtype, product.n);
  kernels::run_gated(context_, {.gate_up = buffers_.gate_up,
                                .bias = layer.gate_up.bias,
                                .y = buffers_.inner,
                                .dtype = weights_.dtype,
                                .rows = x.rows,
                                .size = inner});
  return {buffers_.inner, x.rows, inner};
}

CudaOps::Logits CudaOps::head(Activation x) {
  const int64_t vocab = weights_.config.vocab_size;
  gemm(x, weights_.head, Epilogue::kStore, buffers_.logits, DType::kF32, vocab);
  return {buffers_.logits, x.rows};
}

}  // namespace kvasir::models
