// The forward in differentiable operations: logits and gradients against transformers.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "formats/safetensors.h"
#include "models/family.h"
#include "models/forward.h"
#include "oracle_models.h"
#include "train/autograd_ops.h"

namespace kvasir::train {
namespace {

std::span<const float> values(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

class OracleTraining : public testing::TestWithParam<const char*> {};

TEST_P(OracleTraining, LogitsAndGradientsEqualTransformers) {
  if (oracle::oracle_models().empty())
    GTEST_SKIP() << "the oracle environment .venv-oracle is not installed; run ./dev test";
  ASSERT_NE(oracle::oracle_models(), "failed") << "model_oracle.py failed";
  const auto folder = oracle::oracle_models() / GetParam();
  const auto expected = formats::SafetensorsFile::open(folder / "expected.safetensors").value();
  const auto config = formats::load_model_config(folder).value();
  models::FileWeights source(formats::WeightFiles::open(folder).value());
  AutogradWeights weights = load_autograd_weights(config, source);

  const std::vector<TokenId> tokens = oracle::ids(expected, "ids_64");
  AutogradOps ops(weights, tokens);
  const at::Tensor logits = models::forward(ops, weights);
  EXPECT_LE(oracle::largest_difference(values(logits.contiguous()),
                                       oracle::floats(expected, "logits_64")),
            2e-4f);

  at::Tensor targets = at::empty({63}, at::kLong);
  std::copy(tokens.begin() + 1, tokens.end(), targets.mutable_data_ptr<int64_t>());
  at::cross_entropy_loss(logits.slice(0, 0, 63), targets).backward();
  const AutogradLayer& first = weights.layers[0];
  std::vector<std::pair<const char*, at::Tensor>> parameters = {
      {"model.embed_tokens.weight", weights.embedding},
      {"model.layers.0.self_attn.q_proj.weight", first.q.weight},
      {"model.layers.0.self_attn.k_proj.weight", first.k.weight},
      {"model.layers.0.self_attn.v_proj.weight", first.v.weight},
      {"model.layers.0.mlp.gate_proj.weight", first.gate.weight},
      {"model.layers.0.mlp.up_proj.weight", first.up.weight},
      {"model.layers.0.input_layernorm.weight", first.input_norm}};
  if (models::has_output_norms(models::find_family(config))) {
    parameters.emplace_back("model.layers.0.post_self_attn_layernorm.weight", first.o_norm);
    parameters.emplace_back("model.layers.0.post_mlp_layernorm.weight", first.down_norm);
  }
  for (const auto& [name, parameter] : parameters) {
    ASSERT_TRUE(parameter.grad().defined()) << name;
    const std::vector<float> reference = oracle::floats(expected, std::string("gradient_") + name);
    float scale = 0;
    for (const float value : reference) scale = std::max(scale, std::abs(value));
    EXPECT_GT(scale, 0) << name;
    // f32 in another order: a thousandth of the largest element.
    EXPECT_LE(oracle::largest_difference(values(parameter.grad().contiguous()), reference),
              1e-3f * scale)
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, OracleTraining, testing::ValuesIn(oracle::kOracleCases),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace kvasir::train
