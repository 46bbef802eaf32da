#include "engine/sampling_cuda.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace kvasir::engine {
namespace {

constexpr size_t kCountBytes = sizeof(int32_t);

size_t table_bytes(int64_t max_draws, int64_t vocab) {
  return static_cast<size_t>(max_draws * vocab) * (kCountBytes + 1);
}

Result<SampleResult> result_of(const kernels::SampleChoice& choice, const Draw& draw,
                               int64_t vocab) {
  if (choice.fault != 0) return broken_logits(draw.position, choice.fault == 2);
  SampleResult result;
  result.token = choice.token;
  if (draw.top < 0) return result;
  result.logprob = choice.logprob;
  const int64_t count = std::min<int64_t>({draw.top, kernels::kMaxTopLogprobs, vocab});
  for (int64_t i = 0; i < count; ++i)
    result.top_logprobs.push_back({choice.top_tokens[i], choice.top_logprobs[i]});
  return result;
}

}  // namespace

int64_t CudaSampling::device_bytes(int64_t max_draws, int64_t vocab) {
  return static_cast<int64_t>(static_cast<size_t>(max_draws) *
                                  (sizeof(kernels::SampleDraw) + sizeof(kernels::SampleChoice)) +
                              table_bytes(max_draws, vocab));
}

CudaSampling::CudaSampling(int64_t max_draws, int64_t vocab)
    : max_draws_(max_draws),
      vocab_(vocab),
      host_draws_(static_cast<size_t>(max_draws) * sizeof(kernels::SampleDraw)),
      host_choices_(static_cast<size_t>(max_draws) * sizeof(kernels::SampleChoice)),
      draws_(host_draws_.bytes()),
      choices_(host_choices_.bytes()),
      tables_(table_bytes(max_draws, vocab)) {}

void CudaSampling::upload_tables(const cuda::Context& context, const Draw& draw, int64_t index,
                                 kernels::SampleDraw& described) {
  const auto upload = [&](auto values, std::byte* place) {
    if (values.empty()) return false;
    KVASIR_CUDA(cudaMemcpyAsync(place, values.data(), values.size_bytes(), cudaMemcpyHostToDevice,
                                context.stream));
    return true;
  };
  std::byte* counts = tables_.data() + index * vocab_ * static_cast<int64_t>(kCountBytes);
  std::byte* seen =
      tables_.data() + max_draws_ * vocab_ * static_cast<int64_t>(kCountBytes) + index * vocab_;
  if (upload(draw.sampler->answer_counts(), counts))
    described.counts = reinterpret_cast<const int32_t*>(counts);
  if (upload(draw.sampler->seen(), seen)) described.seen = reinterpret_cast<const uint8_t*>(seen);
}

void CudaSampling::describe(const cuda::Context& context, std::span<const Draw> draws,
                            std::span<const int64_t> rows) {
  for (size_t i = 0; i < draws.size(); ++i) {
    const SamplingOptions& options = draws[i].sampler->options();
    kernels::SampleDraw described{.row = rows[i],
                                  .temperature = options.temperature,
                                  .top_k = options.top_k,
                                  .top_p = options.top_p,
                                  .min_p = options.min_p,
                                  .uniform = draws[i].sampler->random_number(draws[i].position),
                                  .repetition_penalty = options.repetition_penalty,
                                  .presence_penalty = options.presence_penalty,
                                  .frequency_penalty = options.frequency_penalty,
                                  .top = std::min(draws[i].top, kernels::kMaxTopLogprobs)};
    upload_tables(context, draws[i], static_cast<int64_t>(i), described);
    std::memcpy(host_draws_.data() + i * sizeof(described), &described, sizeof(described));
  }
}

std::vector<Result<SampleResult>> CudaSampling::sample(const cuda::Context& context,
                                                       const float* logits,
                                                       std::span<const Draw> draws,
                                                       std::span<const int64_t> rows) {
  KVASIR_CHECK(std::ssize(draws) <= max_draws_);
  describe(context, draws, rows);
  KVASIR_CUDA(cudaMemcpyAsync(draws_.data(), host_draws_.data(),
                              draws.size() * sizeof(kernels::SampleDraw), cudaMemcpyHostToDevice,
                              context.stream));
  kernels::run_sample(context,
                      {.logits = logits,
                       .vocab = vocab_,
                       .draws = reinterpret_cast<const kernels::SampleDraw*>(draws_.data()),
                       .count = std::ssize(draws),
                       .choices = reinterpret_cast<kernels::SampleChoice*>(choices_.data())});
  KVASIR_CUDA(cudaMemcpyAsync(host_choices_.data(), choices_.data(),
                              draws.size() * sizeof(kernels::SampleChoice), cudaMemcpyDeviceToHost,
                              context.stream));
  KVASIR_CUDA(cudaStreamSynchronize(context.stream));
  std::vector<Result<SampleResult>> results;
  for (size_t i = 0; i < draws.size(); ++i)
    results.push_back(result_of(
        reinterpret_cast<const kernels::SampleChoice*>(host_choices_.data())[i], draws[i], vocab_));
  return results;
}

}  // namespace kvasir::engine
