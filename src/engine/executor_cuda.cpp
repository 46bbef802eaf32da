#include "engine/executor_cuda.h"

#include <algorithm>

#include "base/check.h"
#include "engine/cpu_executor.h"
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
                                const CudaExecutor::Options& options, bool is_decode) {
  const models::CudaScratchOptions& scratch = options.scratch;
  const int64_t most = std::min<int64_t>({kGraphRows[std::size(kGraphRows) - 1], scratch.max_rows,
                                          scratch.max_logit_rows, scratch.max_spans});
  return {.layers = static_cast<int>(config.num_layers),
          .max_rows = is_decode ? most : scratch.max_rows,
          .max_logit_rows = is_decode ? most : scratch.max_logit_rows,
          .max_spans = is_decode ? static_cast<int>(most) : scratch.max_spans,
          .max_length = scratch.max_length,
          .pool_blocks = options.pool_blocks};
}

int64_t max_draws(const CudaExecutor::Options& options) { return options.scratch.max_logit_rows; }

// Pairs that dense causal attention scores for the last `count` of the positions before `end`.
uint64_t causal_pairs(uint64_t end, uint64_t count) {
  return count * (end - count) + count * (count + 1) / 2;
}

}  // namespace

CudaExecutor::Options CudaExecutor::options_of(const models::CpuScratchOptions& scratch,
                                               int64_t pool_blocks) {
  return {.scratch = {.max_rows = scratch.max_rows,
                      .max_logit_rows = scratch.max_logit_rows,
                      .max_spans = static_cast<int>(scratch.max_spans),
                      .max_length = scratch.max_length},
          .pool_blocks = pool_blocks};
}

int64_t CudaExecutor::device_bytes(const cuda::Device& device, const formats::ModelConfig& config,
                                   DType dtype, const Options& options) {
  const models::Rotary rotary = rotary_of(config);
  return models::CudaOps::scratch_bytes(context_of(device, nullptr), config, dtype,
                                        rotary.rotary_dim(), options.scratch) +
         StepInputs::device_bytes(input_limits(config, options, false), rotary) +
         StepInputs::device_bytes(input_limits(config, options, true), rotary) +
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
      inputs_(input_limits(weights.config, options, false), rotary_),
      decode_inputs_(input_limits(weights.config, options, true), rotary_),
      sampling_(max_draws(options), weights.config.vocab_size) {}

CudaExecutor::~CudaExecutor() {
  cudaStreamSynchronize(context_.stream);
  for (const auto& [rows, graph] : graphs_) cudaGraphExecDestroy(graph);
}

Result<void> CudaExecutor::check(const Step& step) const {
  int64_t rows = 0, logit_rows = 0;
  for (const StepSpan& span : step.spans) {
    rows += std::ssize(span.tokens);
    if (span.logits == StepSpan::Logits::kLast) logit_rows += 1;
    if (span.logits == StepSpan::Logits::kAll) logit_rows += std::ssize(span.tokens);
    for (const TokenId token : span.tokens)
      if (token < 0 || token >= vocab_size())
        return Error(ErrorCode::kInternal, "token id " + std::to_string(token) + " is not below " +
                                               std::to_string(vocab_size()));
  }
  if (rows > options_.scratch.max_rows || logit_rows > options_.scratch.max_logit_rows ||
      std::ssize(step.spans) > options_.scratch.max_spans)
    return Error(ErrorCode::kInternal, "a step exceeds the scratch memory it was planned for");
  return {};
}

Result<StepResult> CudaExecutor::run(const Step& step) {
  if (auto checked = check(step); !checked) return checked.error();
  KVASIR_CUDA(cudaSetDevice(device_));  // of the calling thread
  const bool is_decode =
      !step.deterministic && std::ranges::all_of(step.spans, [](const StepSpan& span) {
        return span.tokens.size() == 1 && span.logits == StepSpan::Logits::kLast;
      });
  const int64_t most = input_limits(weights_.config, options_, true).max_rows;
  const int64_t rows = is_decode ? graph_rows(std::ssize(step.spans), most) : 0;
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
  for (size_t i = 0; i < step.spans.size(); ++i) {
    const StepSpan& span = step.spans[i];
    const int64_t count = span.logits == StepSpan::Logits::kNone   ? 0
                          : span.logits == StepSpan::Logits::kLast ? 1
                                                                   : std::ssize(span.tokens);
    logit_rows_.emplace_back(inputs.first_logit_row(i), count);
  }
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

StepResult CudaExecutor::count_pairs(const Step& step) const {
  const formats::ModelConfig& config = weights_.config;
  const kernels::CudaAttentionDesc desc{.dtype = weights_.dtype,
                                        .q_heads = static_cast<int>(config.num_q_heads),
                                        .kv_heads = static_cast<int>(config.num_kv_heads),
                                        .head_dim = static_cast<int>(config.head_dim)};
  const auto pairs = [&](int64_t offset, int64_t rows, int64_t window) -> uint64_t {
    if (rows == 0) return 0;
    return rows == 1 && !step.deterministic
               ? kernels::decode_attention_pairs(desc, offset + 1, window)
               : kernels::prefill_attention_pairs(desc, context_, offset, rows, window);
  };
  const auto heads = static_cast<uint64_t>(config.num_q_heads);
  const auto layers = static_cast<uint64_t>(config.num_layers);
  StepResult result;
  for (size_t i = 0; i < step.spans.size(); ++i) {
    const StepSpan& span = step.spans[i];
    const int64_t rows = std::ssize(span.tokens), logits = logit_rows_[i].second;
    const int64_t end = span.first_position + rows;
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
    const uint64_t causal =
        (layers - 1) * causal_pairs(static_cast<uint64_t>(end), static_cast<uint64_t>(rows)) +
        causal_pairs(static_cast<uint64_t>(end), static_cast<uint64_t>(logits));
    result.spans.push_back({.scored_pairs = heads * scored, .causal_pairs = heads * causal});
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
