#pragma once
// A model with an executor and KV pages for timing: prefill and decode without the engine loop.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "bench/bench.h"
#include "engine/backend.h"
#include "kv/kv_manager.h"

namespace kvasir::bench {

// The configuration of a named shape: "16m" is that of the shipped model (8 layers, hidden 384, 6
// query and 2 KV heads of 64, feed-forward 1,024, vocabulary 8,192, tied), "1b" is that of
// Llama 3.2 1B (16 layers, hidden 2,048, 32 query and 8 KV heads of 64, feed-forward 8,192,
// vocabulary 128,256, tied), "8b" that of Llama 3.1 8B (32 layers, hidden 4,096, 32 and 8 heads of
// 128, feed-forward 14,336, not tied). Throws kInvalidArgument.
formats::ModelConfig named_shape(const std::string& name);

// What the options ask for: lengths or else `fallback`; the model's or the named shape's
// configuration; the model's weights, null for a shape.
std::vector<int64_t> lengths_or(const BenchOptions& options, std::vector<int64_t> fallback);
formats::ModelConfig model_config(const BenchOptions& options);
std::shared_ptr<models::WeightSource> model_source(const BenchOptions& options);

class ModelBench {
 public:
  // On `gpu`, or without one on the CPU. `source` null: random weights.
  ModelBench(ThreadPool& pool, const formats::ModelConfig& config,
             const std::optional<cuda::Device>& gpu, std::shared_ptr<models::WeightSource> source,
             int64_t max_length, int64_t chunk);

  // Computes positions [0, tokens) chunk by chunk, last logits only, as a request would.
  void prefill(int64_t tokens);
  // `steps` single-token steps from position `position` on, each with its token chosen.
  void decode(int64_t position, int64_t steps);

  // Bytes of weights that one decode step reads.
  int64_t decode_weight_bytes() const { return decode_weight_bytes_; }
  int64_t kv_bytes_per_token() const { return kv_.geometry().bytes_per_token(); }
  // Floating-point operations that prefill(tokens) carries out in matrix products and attention.
  double prefill_flops(int64_t tokens) const {
    return gemm_flops(tokens) + attention_flops(tokens);
  }
  double gemm_flops(int64_t tokens) const;
  double attention_flops(int64_t tokens) const;

 private:
  void run(int64_t first, int64_t count, engine::StepSpan::Logits logits);

  formats::ModelConfig config_;
  engine::ResolvedModel model_;
  std::unique_ptr<engine::Backend> backend_;
  kv::KvManager kv_;
  std::unique_ptr<engine::Executor> executor_;
  int64_t decode_weight_bytes_;
  kv::SequenceId sequence_;
  int64_t chunk_;
  std::vector<TokenId> tokens_;
  engine::Sampler sampler_{SamplingOptions{}, 0, 1};  // greedy
};

}  // namespace kvasir::bench
