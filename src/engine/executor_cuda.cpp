#include "engine/executor_cuda.h"

#include <algorithm>

#include "base/check.h"
#include "models/attention_desc.h"
#include "models/forward.h"

namespace kvasir::engine {
namespace {

// Batches that graphs exist for; a step takes the next larger one. Every graph is captured at its
// first use.
constexpr int64_t kGraphRows[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};

// The smallest size that holds `rows`; 0 = none does.
int64_t graph_rows(int64_t rows, int64_t most) {
  for (const int64_t size : kGraphRows)
    if (size >= rows && size <= most) return size;
  return 0;
}

cuda::Context context_of(const cuda::Device& device, cudaStream_t stream) {
  return {.stream = stream,
          .multiprocessors = device.multiprocessors,
          .compute_capability = device.compute_capability};
}

models::Rotary rotary_of(const formats::ModelConfig& config) {
  return {config.rope, config.head_dim, config.max_positions};
}

models::CudaRotary device_rotary(const models::Rotary& rotary) {
  return {.rotary_dim = rotary.rotary_dim(),
          .factor = static_cast<float>(rotary.attention_factor())};
}

StepInputs::Limits input_limits(const formats::ModelConfig& config,
                                const CudaExecutor::Options& options) {
  return {.layers = static_cast<int>(config.num_layers),
          .scratch = options.scratch,
          .pool_blocks = options.pool_blocks};
}

// Of steps that are graphs: a row, a span and a row of logits for each sequence.
StepInputs::Limits graph_limits(const formats::ModelConfig& config,
                                const CudaExecutor::Options& options) {
  StepInputs::Limits limits = input_limits(config, options);
  models::ScratchOptions& scratch = limits.scratch;
  const int64_t most = std::min({kGraphRows[std::size(kGraphRows) - 1], scratch.max_rows,
                                 scratch.max_logit_rows, scratch.max_spans});
  scratch.max_rows = scratch.max_logit_rows = scratch.max_spans = most;
  return limits;
}

int64_t max_draws(const CudaExecutor::Options& options) { return options.scratch.max_logit_rows; }

}  // namespace

int64_t CudaExecutor::device_bytes(const cuda::Device& device, const formats::ModelConfig& config,
                                   DType dtype, const Options& options) {
  const models::Rotary rotary = rotary_of(config);
  return models::CudaOps::scratch_bytes(context_of(device, nullptr), config, dtype,
                                        rotary.rotary_dim(), options.scratch) +
         StepInputs::device_bytes(input_limits(config, options), rotary) +
         StepInputs::device_bytes(graph_limits(config, options), rotary) +
         CudaSampling::device_bytes(max_draws(options), config.vocab_size);
}

CudaExecutor::CudaExecutor(const cuda::Device& device, cudaStream_t stream,
                           const models::CudaWeights& weights, const kernels::PagePool& pages,
                           const Options& options)
    : device_(device.index),
      context_(context_of(device, stream)),
      weights_(weights),
      options_(options),
      rotary_(rotary_of(weights.config)),
      ops_(context_, device.index, weights, pages, options.pool_blocks * weights.config.num_layers,
           device_rotary(rotary_), options.scratch),
      inputs_(input_limits(weights.config, options), rotary_),
      decode_inputs_(graph_limits(weights.config, options), rotary_),
      sampling_(max_draws(options), weights.config.vocab_size) {}

CudaExecutor::~CudaExecutor() {
  cudaStreamSynchronize(context_.stream);
  for (const auto& [rows, graph] : graphs_) cudaGraphExecDestroy(graph);
}

Result<StepResult> CudaExecutor::run(const Step& step) {
  if (auto checked = check_step(step, options_.scratch, vocab_size()); !checked)
    return checked.error();
  KVASIR_CUDA(cudaSetDevice(device_));  // of the calling thread
  const bool is_decode =
      !step.deterministic && std::ranges::all_of(step.spans, [](const StepSpan& span) {
        return span.tokens.size() == 1 && span.logits == StepSpan::Logits::kLast && !span.planner;
      });
  const int64_t rows =
      is_decode ? graph_rows(std::ssize(step.spans), decode_inputs_.max_rows()) : 0;
  // The inputs' memory may still be read by the step before.
  KVASIR_CUDA(cudaStreamSynchronize(context_.stream));
  logit_rows_.clear();
  const StepInputs& inputs = rows > 0 ? decode_inputs_ : inputs_;
  if (rows > 0) {
    decode_inputs_.write(step, rows, context_.stream);
    if (!graphs_.contains(rows)) capture(rows);
    KVASIR_CUDA(cudaGraphLaunch(graphs_.at(rows), context_.stream));
  } else {
    inputs_.write(step, 0, context_.stream);
    if (auto done = run_layers(); !done) return done.error();
  }
  for (size_t i = 0; i < step.spans.size(); ++i)
    logit_rows_.emplace_back(inputs.first_logit_row(i), step.spans[i].logit_rows());
  return count_pairs(step);
}

void CudaExecutor::capture(int64_t rows) {
  models::DeviceStep step = decode_inputs_.device_step();
  step.captured = true;
  step.cancel = nullptr;
  ops_.set_overlap(true);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t replayed = nullptr;
  KVASIR_CUDA(cudaStreamBeginCapture(context_.stream, cudaStreamCaptureModeThreadLocal));
  try {
    ops_.begin_step(step);
    logits_ = models::forward(ops_, weights_).data;
  } catch (...) {
    cudaStreamEndCapture(context_.stream, &graph);
    if (graph) cudaGraphDestroy(graph);
    ops_.set_overlap(false);
    throw;
  }
  ops_.set_overlap(false);
  KVASIR_CUDA(cudaStreamEndCapture(context_.stream, &graph));
  const cudaError_t status = cudaGraphInstantiate(&replayed, graph, 0);
  cudaGraphDestroy(graph);
  KVASIR_CUDA(status);
  graphs_[rows] = replayed;
}

Result<void> CudaExecutor::run_layers() {
  const models::DeviceStep& device_step = inputs_.device_step();
  ops_.begin_step(device_step);
  logits_ = models::forward(ops_, weights_).data;
  if (!ops_.stopped()) return {};
  KVASIR_CUDA(cudaStreamSynchronize(context_.stream));
  return Error(ErrorCode::kCancelled, "the step was cancelled");
}

StepResult CudaExecutor::count_pairs(const Step& step) {
  const formats::ModelConfig& config = weights_.config;
  const kernels::AttentionDesc desc = models::attention_desc(config, weights_.dtype);
  const auto pairs = [&](int64_t offset, int64_t rows, int64_t window) -> uint64_t {
    if (rows == 0) return 0;
    return rows == 1 && !step.deterministic
               ? kernels::decode_attention_pairs(desc, offset + 1, window)
               : kernels::prefill_attention_pairs(desc, context_, offset, rows, window);
  };
  const auto heads = static_cast<uint64_t>(config.num_q_heads);
  StepResult result;
  for (const StepSpan& span : step.spans) {
    const int64_t rows = std::ssize(span.tokens), logits = span.logit_rows();
    const int64_t end = span.first_position + rows;
    if (span.planner) {  // below
      result.spans.push_back({.causal_pairs = causal_pairs(span, config)});
      continue;
    }
    uint64_t scored = 0;
    int64_t window = -1;
    uint64_t of_layer = 0;
    for (const models::CudaLayerWeights& layer : weights_.layers) {
      if (&layer == &weights_.layers.back()) {
        scored += pairs(end - logits, logits, layer.window);
        break;
      }
      if (layer.window != window) of_layer = pairs(span.first_position, rows, layer.window);
      window = layer.window;
      scored += of_layer;
    }
    result.spans.push_back(
        {.scored_pairs = heads * scored, .causal_pairs = causal_pairs(span, config)});
  }
  if (std::ranges::any_of(step.spans, [](const StepSpan& span) { return span.planner; }))
    for (const models::PlannedAttention::Count& count : ops_.planned_counts()) {
      SpanResult& span = result.spans[count.step_span];
      span.scored_pairs = count.scored_pairs;
      span.planned_heads = count.planned_heads;
      span.dense_heads = count.dense_heads;
      span.plan_seconds = count.plan_seconds;
      for (SpanResult& each : result.spans) each.attention_seconds = count.attention_seconds;
    }
  return result;
}

std::vector<Result<SampleResult>> CudaExecutor::sample(std::span<const Draw> draws) {
  std::vector<int64_t> rows;
  for (const Draw& draw : draws) {
    const auto& [first, count] = logit_rows_.at(draw.span);
    KVASIR_CHECK(count > 0, "a token is drawn where no logits were asked for");
    rows.push_back(first + count - 1);
  }
  std::vector<Result<SampleResult>> results = sampling_.sample(context_, logits_, draws, rows);
  // So many log-probabilities are rare enough to be looked for on the host.
  for (size_t i = 0; i < draws.size(); ++i)
    if (draws[i].top > kernels::kMaxTopLogprobs)
      results[i] =
          draws[i].sampler->sample(logits(draws[i].span).last(static_cast<size_t>(vocab_size())),
                                   draws[i].position, draws[i].top);
  return results;
}

std::span<const float> CudaExecutor::logits(size_t span) {
  const auto& [first, count] = logit_rows_.at(span);
  const auto size = static_cast<size_t>(count * vocab_size());
  if (host_logits_.bytes() < size * sizeof(float))
    host_logits_ = cuda::PinnedMemory(size * sizeof(float));
  KVASIR_CUDA(cudaMemcpyAsync(host_logits_.data(), logits_ + first * vocab_size(),
                              size * sizeof(float), cudaMemcpyDeviceToHost, context_.stream));
  KVASIR_CUDA(cudaStreamSynchronize(context_.stream));
  return {reinterpret_cast<const float*>(host_logits_.data()), size};
}

}  // namespace kvasir::engine
