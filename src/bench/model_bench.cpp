#include "bench/model_bench.h"

#include <algorithm>

#include "engine/gpu.h"

namespace kvasir::bench {
namespace {

engine::ResolvedModel resolve(const formats::ModelConfig& config,
                              const std::optional<cuda::Device>& gpu) {
  engine::ResolvedModel model;
  model.config = config;
  model.gpu = gpu;
  model.isa = best_isa();
  model.dtype = gpu || multiplies_bf16(model.isa) ? DType::kBF16 : DType::kF32;
  return model;
}

std::shared_ptr<models::WeightSource> or_random(std::shared_ptr<models::WeightSource> source) {
  return source ? source : std::make_shared<models::RandomWeights>();
}

// All but the embedding, of which one row is read; on a GPU a tied one is also the head.
int64_t weight_bytes(const engine::ResolvedModel& model) {
  const formats::ModelConfig& config = model.config;
  if (!model.gpu) return models::cpu_weight_bytes(config, {.dtype = model.dtype, .isa = model.isa});
  const int64_t embedding = config.vocab_size * config.hidden_size * 2;
  return engine::gpu_weight_bytes(config) - (config.tie_word_embeddings ? 0 : embedding);
}

}  // namespace

formats::ModelConfig named_shape(const std::string& name) {
  if (name != "16m" && name != "1b" && name != "8b")
    throw Error(ErrorCode::kInvalidArgument, "expected 16m, 1b or 8b, found \"" + name + "\"",
                "--shape");
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
  if (name == "1b") return config;
  if (name == "16m") {
    config.hidden_size = 384;
    config.intermediate_size = 1024;
    config.num_layers = 8;
    config.num_q_heads = 6;
    config.num_kv_heads = 2;
    config.vocab_size = 8192;
    config.max_positions = 65536;
    return config;
  }
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_layers = 32;
  config.head_dim = 128;
  config.tie_word_embeddings = false;
  return config;
}

std::vector<int64_t> lengths_or(const BenchOptions& options, std::vector<int64_t> fallback) {
  return options.lengths.empty() ? fallback : options.lengths;
}

formats::ModelConfig model_config(const BenchOptions& options) {
  return options.shape.empty() ? formats::load_model_config(options.model).value()
                               : named_shape(options.shape);
}

std::shared_ptr<models::WeightSource> model_source(const BenchOptions& options) {
  if (!options.shape.empty()) return nullptr;
  return std::make_shared<models::FileWeights>(formats::WeightFiles::open(options.model).value());
}

ModelBench::ModelBench(ThreadPool& pool, const formats::ModelConfig& config,
                       const std::optional<cuda::Device>& gpu,
                       std::shared_ptr<models::WeightSource> source, int64_t max_length,
                       int64_t chunk)
    : config_(config),
      model_(resolve(config, gpu)),
      backend_(engine::load_backend(pool, model_, or_random(std::move(source)))),
      kv_(engine::kv_geometry(config, model_.dtype), max_length / kernels::kPageTokens + 2,
          backend_->page_memory()),
      executor_(backend_->make_executor(kv_, {.max_rows = chunk,
                                              .max_logit_rows = 1,
                                              .max_spans = 1,
                                              .max_length = max_length + kernels::kPageTokens})),
      decode_weight_bytes_(weight_bytes(model_)),
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
  executor_->run(step).value();
  if (logits == engine::StepSpan::Logits::kLast) {
    const engine::Draw draw{.span = 0, .sampler = &sampler_, .position = first + count};
    executor_->sample({&draw, 1}).at(0).value();
  }
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

// The last layer computes every row's keys and values, and everything else for the last row.
double ModelBench::gemm_flops(int64_t tokens) const {
  const auto rows = static_cast<double>(tokens), hidden = static_cast<double>(config_.hidden_size);
  const auto q_size = static_cast<double>(config_.num_q_heads * config_.head_dim);
  const auto kv_size = static_cast<double>(config_.num_kv_heads * config_.head_dim);
  const double kv = 2 * hidden * 2 * kv_size;
  const double rest =
      2 * (2 * hidden * q_size + 3 * hidden * static_cast<double>(config_.intermediate_size));
  const auto whole_layers = static_cast<double>(config_.num_layers - 1);
  const double head = 2 * hidden * static_cast<double>(config_.vocab_size);
  return whole_layers * (kv + rest) * rows + kv * rows + rest + head;
}

double ModelBench::attention_flops(int64_t tokens) const {
  const auto rows = static_cast<double>(tokens);
  const auto q_size = static_cast<double>(config_.num_q_heads * config_.head_dim);
  return static_cast<double>(config_.num_layers - 1) * 4 * q_size * rows * (rows + 1) / 2 +
         4 * q_size * rows;
}

}  // namespace kvasir::bench
