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
  for (const char* architecture : {"MistralForCausalLM", "Phi3ForCausalLM"}) {
    const formats::ModelConfig own = config(architecture);
    const FamilyTraits& family = find_family(own);
    EXPECT_FALSE(has_qkv_bias(family, biased) || has_o_bias(family, biased) ||
                 has_mlp_bias(family, biased));
  }
  for (const char* architecture : {"GlmForCausalLM", "Glm4ForCausalLM"}) {
    const formats::ModelConfig own = config(architecture);
    const FamilyTraits& family = find_family(own);
    EXPECT_TRUE(has_qkv_bias(family, biased));
    EXPECT_FALSE(has_qkv_bias(family, plain) || has_o_bias(family, biased) ||
                 has_mlp_bias(family, biased));
  }
}

TEST(Family, RotationAndOutputNorms) {
  for (const FamilyTraits& family : families()) {
    SCOPED_TRACE(family.architecture);
    EXPECT_EQ(family.has_interleaved_rotary, family.model_type.starts_with("glm"));
    EXPECT_EQ(has_output_norms(family), family.model_type == "glm4");
    EXPECT_EQ(family.names.o_norm.empty(), family.names.down_norm.empty());
  }
}

TEST(Family, PartsOfStackedLinearsLieOneBehindTheOther) {
  formats::ModelConfig sizes = config("Phi3ForCausalLM");
  sizes.hidden_size = 96;
  sizes.intermediate_size = 160;
  sizes.num_q_heads = 4;
  sizes.num_kv_heads = 2;
  sizes.head_dim = 20;
  const auto expect = [](const WeightPart& part, std::string_view name, int64_t rows,
                         int64_t first_row, int64_t tensor_rows) {
    SCOPED_TRACE(name);
    EXPECT_EQ(part.name, name);
    EXPECT_EQ(part.rows, rows);
    EXPECT_EQ(part.first_row, first_row);
    EXPECT_EQ(part.tensor_rows, tensor_rows);
  };
  const LayerParts phi3 = layer_parts(find_family(sizes), sizes);
  expect(phi3.q, "self_attn.qkv_proj", 80, 0, 160);
  expect(phi3.k, "self_attn.qkv_proj", 40, 80, 160);
  expect(phi3.v, "self_attn.qkv_proj", 40, 120, 160);
  expect(phi3.o, "self_attn.o_proj", 96, 0, 96);
  expect(phi3.gate, "mlp.gate_up_proj", 160, 0, 320);
  expect(phi3.up, "mlp.gate_up_proj", 160, 160, 320);
  expect(phi3.down, "mlp.down_proj", 96, 0, 96);
  sizes.architecture = "GlmForCausalLM";
  const LayerParts glm = layer_parts(find_family(sizes), sizes);
  expect(glm.k, "self_attn.k_proj", 40, 0, 40);
  expect(glm.up, "mlp.gate_up_proj", 160, 160, 320);
  sizes.architecture = "LlamaForCausalLM";
  const LayerParts llama = layer_parts(find_family(sizes), sizes);
  expect(llama.q, "self_attn.q_proj", 80, 0, 80);
  expect(llama.v, "self_attn.v_proj", 40, 0, 40);
  expect(llama.gate, "mlp.gate_proj", 160, 0, 160);
  expect(llama.up, "mlp.up_proj", 160, 0, 160);
}

}  // namespace
}  // namespace kvasir::models
