#include "models/family.h"

#include <array>

#include "kvasir/error.h"

namespace kvasir::models {
namespace {

constexpr std::array kFamilies = {
    // Llama 2, 3, 3.1 and later.
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

}  // namespace kvasir::models
