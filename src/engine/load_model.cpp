#include "engine/load_model.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/memory.h"
#include "base/thread_pool.h"
#include "engine/cpu_executor.h"
#include "kernels/paged_attention/paged_attention.h"
#include "models/family.h"
#include "models/rotary.h"

namespace kvasir::engine {
namespace {

// What the program itself takes: code, libraries, tokenizer. Measured at 30 to 60 MiB on the
// default model; see docs/performance.md.
constexpr int64_t kFixedBytes = int64_t{64} << 20;

DType resolve_dtype(const std::string& name, Isa isa) {
  if (name == "auto") return multiplies_bf16(isa) ? DType::kBF16 : DType::kF32;
  if (name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "f16")
    throw Error(ErrorCode::kUnsupported, "f16 is not offered on the CPU; use bf16 or f32",
                "--dtype");
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("expected auto, f32, bf16 or f16, found \"{}\"", name), "--dtype");
}

void check_device(const std::string& name) {
  if (name == "auto" || name == "cpu") return;
  if (name == "cuda")
    throw Error(ErrorCode::kUnsupported, "this build runs on the CPU only; use --device cpu",
                "--device");
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("expected auto, cpu or cuda, found \"{}\"", name), "--device");
}

void check_range(const char* option, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("expected {} to {}, found {}", low, high, value), option);
}

SamplingOptions default_sampling(const formats::GenerationConfig& generation) {
  SamplingOptions sampling;
  sampling.repetition_penalty = generation.repetition_penalty.value_or(1);
  if (!generation.do_sample) return sampling;
  sampling.temperature = generation.temperature.value_or(1);
  sampling.top_k = generation.top_k.value_or(0);
  sampling.top_p = generation.top_p.value_or(1);
  sampling.min_p = generation.min_p.value_or(0);
  return sampling;
}

std::string mib(int64_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

ModelInfo describe(const EngineOptions& options, const ResolvedModel& model) {
  const formats::ModelConfig& config = model.config;
  ModelInfo info;
  info.path = options.model.string();
  info.architecture = config.architecture;
  info.model_type = config.model_type;
  info.dtype = dtype_name(model.dtype);
  info.device = "cpu";
  info.parameters = models::parameter_count(config);
  info.layers = config.num_layers;
  info.hidden_size = config.hidden_size;
  info.intermediate_size = config.intermediate_size;
  info.q_heads = config.num_q_heads;
  info.kv_heads = config.num_kv_heads;
  info.head_dim = config.head_dim;
  info.vocab_size = config.vocab_size;
  info.max_positions = model.max_length;
  info.tied_embeddings = config.tie_word_embeddings;
  info.rope = models::Rotary(config.rope, config.head_dim, config.max_positions).describe();
  info.kv_bytes_per_token = model.geometry.bytes_per_token();
  info.threads = model.threads;
  info.isa = isa_name(model.isa);
  const kernels::AttentionDesc attention{.dtype = model.dtype,
                                         .q_heads = static_cast<int>(config.num_q_heads),
                                         .kv_heads = static_cast<int>(config.num_kv_heads),
                                         .head_dim = static_cast<int>(config.head_dim)};
  info.kernels = {
      {"attention", std::string(kernels::attention_implementation(attention, model.isa))},
      {"gemm", std::string(kernels::gemm_implementation({.dtype = model.dtype,
                                                         .n = config.hidden_size,
                                                         .k = config.hidden_size,
                                                         .isa = model.isa}))}};
  info.end_tokens =
      model.generation.eos_tokens.empty() ? config.eos_tokens : model.generation.eos_tokens;
  info.begin_token = model.generation.bos_token ? model.generation.bos_token : config.bos_token;
  info.sampling = default_sampling(model.generation);
  info.plan.context = std::min((model.blocks - 1) * kernels::kPageTokens, model.max_length);
  info.plan.weights = models::cpu_weight_bytes(config, {.dtype = model.dtype, .isa = model.isa});
  info.plan.kv = model.blocks * model.geometry.block_bytes();
  info.plan.scratch =
      models::CpuOps::scratch_bytes(config, model.dtype, model.threads, model.scratch);
  info.plan.fixed = kFixedBytes;
  info.plan.available = available_memory();
  return info;
}

}  // namespace

ResolvedModel resolve_model(const EngineOptions& options) {
  check_device(options.device);
  check_range("--threads", options.threads, 0, 1024);
  check_range("--chunk", options.chunk, 1, 65536);
  check_range("--max-sequences", options.max_sequences, 1, 4096);
  check_range("--context", options.context, 0, int64_t{1} << 32);

  ResolvedModel model;
  model.config = formats::load_model_config(options.model).value();
  model.generation = formats::load_generation_config(options.model).value();
  models::find_family(model.config);
  model.isa = best_isa();
  model.dtype = resolve_dtype(options.dtype, model.isa);
  model.threads = options.threads > 0 ? options.threads : usable_cpus();
  model.max_length = model_max_length(model.config);
  model.geometry = {.layers = static_cast<int>(model.config.num_layers),
                    .dtype = model.dtype,
                    .kv_heads = static_cast<int>(model.config.num_kv_heads),
                    .head_dim = static_cast<int>(model.config.head_dim)};
  const int64_t context = options.context > 0 ? options.context : model.max_length;
  // One block more than the context fills: a fork's copied tail, or a cached one.
  model.blocks = (context + kernels::kPageTokens - 1) / kernels::kPageTokens + 1;
  model.scratch = {.max_rows = std::max(options.chunk, options.max_sequences),
                   .max_logit_rows = std::max<int64_t>(options.max_sequences, 64),
                   .max_spans = options.max_sequences + options.chunk,
                   .max_length = model.max_length};
  model.info = describe(options, model);

  const MemoryPlan& plan = model.info.plan;
  if (options.context == 0 && plan.total() > plan.available) {
    // The model's maximum was only a default: take what fits.
    const int64_t room = plan.available - (plan.total() - plan.kv);
    const int64_t blocks = room / model.geometry.block_bytes();
    if (blocks >= 16) {
      model.blocks = blocks;
      model.info.plan.kv = blocks * model.geometry.block_bytes();
      model.info.plan.context = (blocks - 1) * kernels::kPageTokens;
    }
  }
  if (model.info.plan.total() > plan.available)
    throw Error(
        ErrorCode::kResourceExhausted,
        fmt::format("the plan needs {} (weights {}, KV of {} tokens {}, scratch {}, program "
                    "{}), found {} available; lower --context, --chunk or --max-sequences",
                    mib(plan.total()), mib(plan.weights), model.blocks * kernels::kPageTokens,
                    mib(plan.kv), mib(plan.scratch), mib(plan.fixed), mib(plan.available)),
        options.model.string());
  return model;
}

}  // namespace kvasir::engine
