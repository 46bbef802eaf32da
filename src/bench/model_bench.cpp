#include "bench/model_bench.h"

#include <algorithm>

namespace kvasir::bench {
namespace {

kv::KvGeometry geometry(const formats::ModelConfig& config, DType dtype) {
  return {.layers = static_cast<int>(config.num_layers),
          .dtype = dtype,
          .kv_heads = static_cast<int>(config.num_kv_heads),
          .head_dim = static_cast<int>(config.head_dim)};
}

models::CpuWeights load(ThreadPool& pool, const formats::ModelConfig& config,
                        std::shared_ptr<models::WeightSource> source) {
  if (!source) source = std::make_shared<models::RandomWeights>();
  const Isa isa = best_isa();
  return models::load_cpu_weights(
      {.pool = pool}, config, std::move(source),
      {.dtype = multiplies_bf16(isa) ? DType::kBF16 : DType::kF32, .isa = isa});
}

}  // namespace

formats::ModelConfig named_shape(const std::string& name) {
  if (name != "1b")
    throw Error(ErrorCode::kInvalidArgument, "expected 1b, found \"" + name + "\"", "--shape");
  formats::ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.model_type = "llama";
  config.hidden_size = 2048;
  config.intermediate_size = 8192;
  config.num_layers = 16;
  config.num_q_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 64;
  config.vocab_size = 128256;
  config.max_positions = 131072;
  config.rms_norm_eps = 1e-5;
  config.tie_word_embeddings = true;
  config.hidden_act = "silu";
  config.rope.theta = 500000;
  return config;
}

ModelBench::ModelBench(ThreadPool& pool, const formats::ModelConfig& config,
                       std::shared_ptr<models::WeightSource> source, int64_t max_length,
                       int64_t chunk)
    : config_(config),
      weights_(load(pool, config, std::move(source))),
      kv_(geometry(config, weights_.dtype), max_length / kernels::kPageTokens + 2),
      executor_(pool, weights_, kv_.page_pool(),
                {.max_rows = chunk,
                 .max_logit_rows = 1,
                 .max_spans = 1,
                 .max_length = max_length + kernels::kPageTokens}),
      sequence_(kv_.open(0, std::vector<TokenId>{0})),
      chunk_(chunk) {
  kv_.reserve(sequence_, max_length + kernels::kPageTokens).value();
  tokens_.resize(chunk);
  for (int64_t i = 0; i < chunk; ++i)
    tokens_[i] = static_cast<TokenId>(i * 7919 % config.vocab_size);
}

void ModelBench::run(int64_t first, int64_t count, engine::StepSpan::Logits logits) {
  engine::StepSpan span{.tokens = std::span(tokens_).first(count),
                        .first_position = first,
                        .rope_length = first + count,
                        .logits = logits};
  for (int layer = 0; layer < kv_.geometry().layers; ++layer)
    span.page_tables.push_back(kv_.page_table(sequence_, layer).data());
  engine::Step step;
  step.spans.push_back(std::move(span));
  executor_.run(step).value();
}

void ModelBench::prefill(int64_t tokens) {
  using Logits = engine::StepSpan::Logits;
  for (int64_t first = 0; first < tokens; first += chunk_)
    run(first, std::min(chunk_, tokens - first),
        first + chunk_ < tokens ? Logits::kNone : Logits::kLast);
}

void ModelBench::decode(int64_t position, int64_t steps) {
  for (int64_t i = 0; i < steps; ++i) run(position + i, 1, engine::StepSpan::Logits::kLast);
}

double ModelBench::prefill_flops(int64_t tokens) const {
  const double rows = static_cast<double>(tokens),
               hidden = static_cast<double>(config_.hidden_size);
  const double q_size = static_cast<double>(config_.num_q_heads * config_.head_dim);
  const double kv_size = static_cast<double>(config_.num_kv_heads * config_.head_dim);
  const double kv = 2 * hidden * 2 * kv_size;
  const double rest =
      2 * (2 * hidden * q_size + 3 * hidden * static_cast<double>(config_.intermediate_size));
  const double attention = 4 * q_size * rows * (rows + 1) / 2;
  const double whole_layers = static_cast<double>(config_.num_layers - 1);
  // The last layer computes every row's keys and values, and everything else for the last row.
  const double last = kv * rows + rest + 4 * q_size * rows;
  const double head = 2 * hidden * static_cast<double>(config_.vocab_size);
  return whole_layers * ((kv + rest) * rows + attention) + last + head;
}

}  // namespace kvasir::bench
