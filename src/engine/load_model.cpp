#include "engine/load_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/memory.h"
#include "base/thread_pool.h"
#include "engine/auto_prefill.h"
#include "engine/cpu_executor.h"
#include "engine/gpu.h"
#include "engine/stages.h"
#include "kernels/paged_attention/paged_attention.h"
#include "models/attention_desc.h"
#include "models/family.h"
#include "models/rotary.h"

namespace kvasir::engine {
namespace {

// What the program itself takes: code, libraries, tokenizer. Measured at 30 to 60 MiB on the
// default model; see docs/performance.md.
constexpr int64_t kFixedBytes = int64_t{64} << 20;

// On a GPU, once its context is there: cuBLASLt and the graphs of decode steps.
constexpr int64_t kGpuFixedBytes = int64_t{256} << 20;

// Where plans follow from queries, each chunk costs an estimate over all keys before it.
constexpr int64_t kCpuChunk = 1024, kCpuPlannedChunk = 8192;
constexpr int64_t kGpuChunk = 8192, kGpuPlannedChunk = 32768;

// What --dtype asks for; none = auto.
std::optional<DType> parse_dtype(const std::string& name) {
  if (name == "auto") return std::nullopt;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    if (name == dtype_name(dtype)) return dtype;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("expected auto, f32, bf16 or f16, found \"{}\"", name), "--dtype");
}

DType resolve_cpu_dtype(const std::string& name, Isa isa) {
  const std::optional<DType> asked = parse_dtype(name);
  if (asked == DType::kF16)
    throw Error(ErrorCode::kUnsupported, "f16 is not offered on the CPU; use bf16 or f32",
                "--dtype");
  return asked.value_or(multiplies_bf16(isa) ? DType::kBF16 : DType::kF32);
}

DType resolve_gpu_dtype(const std::string& name, const formats::ModelConfig& config) {
  const std::optional<DType> asked = parse_dtype(name);
  if (asked == DType::kF32)
    throw Error(ErrorCode::kUnsupported,
                "f32 is not offered on the GPU; use bf16 or f16, or --device cpu", "--dtype");
  return asked.value_or(config.dtype_text == "float16" ? DType::kF16 : DType::kBF16);
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

std::vector<std::pair<std::string, std::string>> cpu_kernels(const formats::ModelConfig& config,
                                                             DType dtype, Isa isa) {
  const kernels::AttentionDesc attention = models::attention_desc(config, dtype);
  return {{"attention", std::string(kernels::attention_implementation(attention, isa))},
          {"gemm",
           std::string(kernels::gemm_implementation(
               {.dtype = dtype, .n = config.hidden_size, .k = config.hidden_size, .isa = isa}))}};
}

int64_t context_of(const ResolvedModel& model) {
  return std::min((model.blocks - 1) * kernels::kPageTokens, model.max_length);
}

MemoryPlan plan_cpu(const ResolvedModel& model) {
  return {
      .context = context_of(model),
      .weights = models::cpu_weight_bytes(model.config, {.dtype = model.dtype, .isa = model.isa}),
      .kv = model.blocks * model.geometry.block_bytes(),
      .scratch =
          models::CpuOps::scratch_bytes(model.config, model.dtype, model.threads, model.scratch),
      .fixed = kFixedBytes,
      .available = available_memory()};
}

MemoryPlan plan_gpu(const EngineOptions& options, const ResolvedModel& model) {
  const auto share =
      static_cast<int64_t>(options.gpu_memory * static_cast<double>(model.gpu->total_bytes));
  return {.context = context_of(model),
          .weights = gpu_weight_bytes(model.config),
          .kv = model.blocks * model.geometry.block_bytes(),
          .scratch = gpu_executor_bytes(*model.gpu, model.config, model.dtype, model.scratch,
                                        model.blocks),
          .fixed = kGpuFixedBytes,
          .available = std::min(share, model.gpu->free_bytes)};
}

ModelInfo describe(const EngineOptions& options, const ResolvedModel& model) {
  const formats::ModelConfig& config = model.config;
  ModelInfo info;
  info.path = options.model.string();
  info.architecture = config.architecture;
  info.model_type = config.model_type;
  info.dtype = dtype_name(model.dtype);
  info.device = model.gpu ? fmt::format("cuda:{}", model.gpu->index) : "cpu";
  info.device_name = model.gpu ? model.gpu->name : cpu_model_name();
  info.chunk = model.chunk;
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
  info.kernels = model.gpu ? gpu_kernels(*model.gpu, config, model.dtype)
                           : cpu_kernels(config, model.dtype, model.isa);
  info.end_tokens =
      model.generation.eos_tokens.empty() ? config.eos_tokens : model.generation.eos_tokens;
  info.begin_token = model.generation.bos_token ? model.generation.bos_token : config.bos_token;
  info.sampling = default_sampling(model.generation);
  info.plan = model.gpu ? plan_gpu(options, model) : plan_cpu(model);
  return info;
}

// No context was asked for: on the CPU what fits of the model's maximum, on a GPU all that does, as
// sequences share the pool.
void fit_context(const EngineOptions& options, ResolvedModel& model) {
  MemoryPlan& plan = model.info.plan;
  if (!model.gpu && plan.total() <= plan.available) return;
  const int64_t most = model.gpu ? options.max_sequences * (model.blocks - 1) + 1 : model.blocks;
  const int64_t room = plan.available - (plan.total() - plan.kv);
  // Page tables grow with the pool; a little of the room is theirs.
  const int64_t blocks =
      std::min(most, (room - (model.gpu ? room / 256 : 0)) / model.geometry.block_bytes());
  if (blocks < 16) return;
  model.blocks = blocks;
  plan = model.gpu ? plan_gpu(options, model) : plan_cpu(model);
}

void check_plan(const EngineOptions& options, const ResolvedModel& model) {
  const MemoryPlan& plan = model.info.plan;
  if (plan.total() <= plan.available) return;
  const int64_t least = plan.total() - plan.kv + 16 * model.geometry.block_bytes();
  const std::string remedy =
      !model.gpu ? "lower --context, --chunk or --max-sequences"
      : least > plan.available
          ? fmt::format(
                "the model needs {} with hardly any KV: use a larger "
                "GPU, a smaller model, --device cpu{}",
                mib(least), options.gpu_memory < 1 ? " or raise --gpu-memory" : "")
          : "lower --context, --chunk or --max-sequences, or raise "
            "--gpu-memory";
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("the plan needs {} (weights {}, KV of {} tokens {}, scratch {}, program "
                          "{}), found {} available{}; {}",
                          mib(plan.total()), mib(plan.weights), model.blocks * kernels::kPageTokens,
                          mib(plan.kv), mib(plan.scratch), mib(plan.fixed), mib(plan.available),
                          model.gpu ? " of " + model.gpu->name : "", remedy),
              options.model.string());
}

std::string auto_device_of(const ResolvedModel& model) {
  return prefill::auto_device(model.gpu ? model.gpu->name : cpu_model_name(),
                              model.gpu ? 0 : model.threads, dtype_name(model.dtype));
}

// Throws where the prefill method is refused.
int64_t default_chunk(const EngineOptions& options, const ResolvedModel& model) {
  check_stages({.prefill = options.prefill}, {.gpu = model.gpu.has_value()}).value();
  std::vector<MethodChoice> methods{options.prefill};
  if (options.prefill.name == "auto")
    methods = AutoPrefill(options.model, auto_device_of(model)).methods(options.prefill).value();
  const bool plans_from_queries = std::ranges::any_of(methods, [&](const MethodChoice& method) {
    const auto planner =
        prefill::make_planner(method, planner_shape(options, model.config)).value();
    return planner && planner->plans_from_queries();
  });
  if (model.gpu) return plans_from_queries ? kGpuPlannedChunk : kGpuChunk;
  return plans_from_queries ? kCpuPlannedChunk : kCpuChunk;
}

}  // namespace

kv::KvGeometry kv_geometry(const formats::ModelConfig& config, DType dtype) {
  return {.layers = static_cast<int>(config.num_layers),
          .dtype = dtype,
          .kv_heads = static_cast<int>(config.num_kv_heads),
          .head_dim = static_cast<int>(config.head_dim)};
}

std::optional<cuda::Device> resolve_device(const std::string& name, std::string& note) {
  if (name == "cpu") return std::nullopt;
  if (name == "auto") {
    if (gpu_count() == 0) return std::nullopt;
    if (auto gpu = open_gpu(0))
      return gpu.value();
    else
      note = std::string("the GPU is not used: ") + gpu.error().message();
    return std::nullopt;
  }
  const auto expected = [&] {
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("expected auto, cpu, cuda or cuda:N, found \"{}\"", name), "--device");
  };
  if (!name.starts_with("cuda")) throw expected();
  if (name == "cuda") return open_gpu(0).value();
  std::string_view list(name);
  list.remove_prefix(4);
  if (!list.starts_with(':')) throw expected();
  list.remove_prefix(1);
  std::vector<int> indices;
  while (true) {
    const size_t comma = list.find(',');
    const std::string_view part = list.substr(0, comma);
    int index = 0;
    const auto [end, status] = std::from_chars(part.data(), part.data() + part.size(), index);
    if (status != std::errc{} || end != part.data() + part.size() || index < 0) throw expected();
    indices.push_back(index);
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  for (const int index : indices) {
    const int count = gpu_count();
    if (index >= count && count > 0 && indices.size() > 1)
      throw Error(ErrorCode::kNotFound,
                  fmt::format("expected {} GPUs ({}), found {} on this machine", indices.size(),
                              name, count),
                  "--device");
  }
  if (indices.size() > 1)
    throw Error(ErrorCode::kUnsupported,
                fmt::format("expected one GPU, found {} asked for; one engine runs on one GPU, "
                            "name one with --device cuda:N",
                            indices.size()),
                "--device");
  return open_gpu(indices.front()).value();
}

prefill::ModelShape planner_shape(const EngineOptions& options,
                                  const formats::ModelConfig& config) {
  return {.layers = static_cast<int>(config.num_layers),
          .q_heads = static_cast<int>(config.num_q_heads),
          .folder = options.model};
}

ResolvedModel resolve_model(const EngineOptions& options) {
  check_range("--threads", options.threads, 0, 1024);
  check_range("--chunk", options.chunk, 0, 65536);
  check_range("--max-sequences", options.max_sequences, 1, 4096);
  check_range("--context", options.context, 0, int64_t{1} << 32);
  if (!(options.gpu_memory > 0 && options.gpu_memory <= 1))
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("expected more than 0 and at most 1, found {}", options.gpu_memory),
                "--gpu-memory");

  ResolvedModel model;
  model.config = formats::load_model_config(options.model).value();
  model.generation = formats::load_generation_config(options.model).value();
  models::find_family(model.config);
  std::string note;
  model.gpu = resolve_device(options.device, note);
  if (model.gpu)
    if (const auto refusal = gpu_shape_refusal(model.config)) throw *refusal;
  model.isa = best_isa();
  model.dtype = model.gpu ? resolve_gpu_dtype(options.dtype, model.config)
                          : resolve_cpu_dtype(options.dtype, model.isa);
  model.threads = options.threads > 0 ? options.threads : usable_cpus();
  model.chunk = options.chunk > 0 ? options.chunk : default_chunk(options, model);
  model.max_length = model_max_length(model.config);
  model.geometry = kv_geometry(model.config, model.dtype);
  const int64_t context = options.context > 0 ? options.context : model.max_length;
  // One block more than the context fills: a fork's copied tail, or a cached one.
  model.blocks = (context + kernels::kPageTokens - 1) / kernels::kPageTokens + 1;
  // Every running sample has one span in a step at most.
  model.scratch = {.max_rows = model.chunk + options.max_sequences,
                   .max_logit_rows = std::max<int64_t>(options.max_sequences, 64),
                   .max_spans = options.max_sequences + (model.gpu ? 0 : model.chunk),
                   .max_length = model.max_length};
  model.info = describe(options, model);
  model.info.device_note = note;
  if (options.context == 0) fit_context(options, model);
  check_plan(options, model);
  return model;
}

}  // namespace kvasir::engine
