#include "models/family.h"

#include <gtest/gtest.h>

#include "kvasir/error.h"

namespace kvasir::models {
namespace {

formats::ModelConfig config(std::string architecture, std::string model_type = "") {
  formats::ModelConfig result;
  result.architecture = std::move(architecture);
  result.model_type = std::move(model_type);
  return result;
}

TEST(Family, IsFoundByArchitectureAndWithoutOneByModelType) {
  for (const FamilyTraits& family : families()) {
    EXPECT_EQ(&find_family(config(std::string(family.architecture))), &family);
    EXPECT_EQ(&find_family(config("", std::string(family.model_type))), &family);
  }
  // The architecture decides where both are there.
  EXPECT_EQ(find_family(config("Qwen3ForCausalLM", "llama")).model_type, "qwen3");
}

TEST(Family, RefusalsNameWhatWasFoundAndWhatIsKnown) {
  const auto message = [](const formats::ModelConfig& config) {
    try {
      find_family(config);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  std::string known;
  for (const FamilyTraits& family : families())
    known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  EXPECT_EQ(
      message(config("MambaForCausalLM", "llama")),
      "config.json: expected an architecture among " + known + ", found \"MambaForCausalLM\"");
  EXPECT_EQ(message(config("", "mamba")),
            "config.json: expected an architecture among " + known + ", found \"mamba\"");
  formats::ModelConfig gelu = config("LlamaForCausalLM");
  gelu.hidden_act = "gelu";
  EXPECT_EQ(message(gelu), "config.json: expected hidden_act \"silu\", found \"gelu\"");
}

TEST(Family, BiasesFollowTheirRule) {
  formats::ModelConfig plain = config("LlamaForCausalLM"), biased = plain;
  biased.attention_bias = biased.mlp_bias = true;
  const FamilyTraits& llama = find_family(plain);
  EXPECT_FALSE(has_qkv_bias(llama, plain) || has_o_bias(llama, plain) ||
               has_mlp_bias(llama, plain));
  EXPECT_TRUE(has_qkv_bias(llama, biased) && has_o_bias(llama, biased) &&
              has_mlp_bias(llama, biased));
  const formats::ModelConfig qwen2_config = config("Qwen2ForCausalLM");
  const FamilyTraits& qwen2 = find_family(qwen2_config);
  EXPECT_TRUE(has_qkv_bias(qwen2, plain));
  EXPECT_FALSE(has_o_bias(qwen2, biased) || has_mlp_bias(qwen2, biased));
  const formats::ModelConfig qwen3_config = config("Qwen3ForCausalLM");
  const FamilyTraits& qwen3 = find_family(qwen3_config);
  EXPECT_TRUE(qwen3.has_qk_norm && has_qkv_bias(qwen3, biased) && has_o_bias(qwen3, biased));
  EXPECT_FALSE(has_qkv_bias(qwen3, plain) || has_mlp_bias(qwen3, biased));
}

}  // namespace
}  // namespace kvasir::models
