#include "models/family.h"

#include <array>

#include "kvasir/error.h"

namespace kvasir::models {
namespace {

constexpr std::array kFamilies = {
    // Llama 2, 3, 3.1 and later; Yi.
    FamilyTraits{.architecture = "LlamaForCausalLM",
                 .model_type = "llama",
                 .qkv_bias = BiasRule::kByConfig,
                 .o_bias = BiasRule::kByConfig,
                 .mlp_bias = BiasRule::kByConfig},
    // Qwen2 and 2.5.
    FamilyTraits{
        .architecture = "Qwen2ForCausalLM", .model_type = "qwen2", .qkv_bias = BiasRule::kAlways},
    FamilyTraits{.architecture = "Qwen3ForCausalLM",
                 .model_type = "qwen3",
                 .qkv_bias = BiasRule::kByConfig,
                 .o_bias = BiasRule::kByConfig,
                 .has_qk_norm = true},
    // Mistral and Mistral Nemo.
    FamilyTraits{.architecture = "MistralForCausalLM", .model_type = "mistral"},
    // Phi-3, 3.5 and Phi-4-mini.
    FamilyTraits{.architecture = "Phi3ForCausalLM",
                 .model_type = "phi3",
                 .names = {.qkv = "self_attn.qkv_proj", .gate_up = "mlp.gate_up_proj"}},
    // GLM-4 (9B and its chat and 1M versions).
    FamilyTraits{.architecture = "GlmForCausalLM",
                 .model_type = "glm",
                 .qkv_bias = BiasRule::kByConfig,
                 .has_interleaved_rotary = true,
                 .names = {.gate_up = "mlp.gate_up_proj"}},
    // GLM-4-0414.
    FamilyTraits{.architecture = "Glm4ForCausalLM",
                 .model_type = "glm4",
                 .qkv_bias = BiasRule::kByConfig,
                 .has_interleaved_rotary = true,
                 .names = {.gate_up = "mlp.gate_up_proj",
                           .o_norm = "post_self_attn_layernorm.weight",
                           .down_norm = "post_mlp_layernorm.weight"}},
};

bool applies(BiasRule rule, bool configured) {
  return rule == BiasRule::kAlways || (rule == BiasRule::kByConfig && configured);
}

}  // namespace

std::span<const FamilyTraits> families() { return kFamilies; }

const FamilyTraits& find_family(const formats::ModelConfig& config) {
  const FamilyTraits* found = nullptr;
  std::string known;
  for (const FamilyTraits& family : kFamilies) {
    known += known.empty() ? "" : ", ";
    known += family.architecture;
    const bool matches = config.architecture.empty() ? family.model_type == config.model_type
                                                     : family.architecture == config.architecture;
    if (matches) found = &family;
  }
  if (!found)
    throw Error(ErrorCode::kUnsupported,
                "expected an architecture among " + known + ", found \"" +
                    (config.architecture.empty() ? config.model_type : config.architecture) + "\"",
                "config.json");
  if (config.hidden_act != "silu")
    throw Error(ErrorCode::kUnsupported,
                "expected hidden_act \"silu\", found \"" + config.hidden_act + "\"", "config.json");
  return *found;
}

bool has_qkv_bias(const FamilyTraits& family, const formats::ModelConfig& config) {
  return applies(family.qkv_bias, config.attention_bias);
}
bool has_o_bias(const FamilyTraits& family, const formats::ModelConfig& config) {
  return applies(family.o_bias, config.attention_bias);
}
bool has_mlp_bias(const FamilyTraits& family, const formats::ModelConfig& config) {
  return applies(family.mlp_bias, config.mlp_bias);
}

LayerParts layer_parts(const FamilyTraits& family, const formats::ModelConfig& config) {
  const int64_t q_size = config.num_q_heads * config.head_dim;
  const int64_t kv_size = config.num_kv_heads * config.head_dim;
  const int64_t inner = config.intermediate_size;
  const auto whole = [](std::string_view name, int64_t rows) {
    return WeightPart{.name = name, .rows = rows, .first_row = 0, .tensor_rows = rows};
  };
  const WeightNames& names = family.names;
  LayerParts parts{.q = whole(names.q, q_size),
                   .k = whole(names.k, kv_size),
                   .v = whole(names.v, kv_size),
                   .o = whole(names.o, config.hidden_size),
                   .gate = whole(names.gate, inner),
                   .up = whole(names.up, inner),
                   .down = whole(names.down, config.hidden_size)};
  if (!names.qkv.empty()) {
    const int64_t rows = q_size + 2 * kv_size;
    parts.q = {names.qkv, q_size, 0, rows};
    parts.k = {names.qkv, kv_size, q_size, rows};
    parts.v = {names.qkv, kv_size, q_size + kv_size, rows};
  }
  if (!names.gate_up.empty()) {
    parts.gate = {names.gate_up, inner, 0, 2 * inner};
    parts.up = {names.gate_up, inner, inner, 2 * inner};
  }
  return parts;
}

bool has_output_norms(const FamilyTraits& family) { return !family.names.o_norm.empty(); }

}  // namespace kvasir::models
