// The forward in differentiable operations: logits and gradients against transformers.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "formats/safetensors.h"
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
  Parameters parameters(config, at::kCPU, at::kFloat);
  parameters.load(source);
  const AutogradWeights& weights = parameters.weights();

  const std::vector<TokenId> tokens = oracle::ids(expected, "ids_64");
  Batch batch{.tokens = {tokens.begin(), tokens.end()},
              .targets = {tokens.begin() + 1, tokens.end()},
              .weights = std::vector<float>(64, 1.0f),
              .documents = {0, 64}};
  batch.targets.push_back(0);
  batch.weights.back() = 0;
  const DeviceBatch on_device = BatchUpload(config, at::kCPU).upload(batch);
  AutogradOps ops(weights, on_device);
  {
    const at::NoGradGuard no_gradients;
    const at::Tensor logits = models::forward(ops, weights);
    EXPECT_LE(oracle::largest_difference(values(logits.contiguous()),
                                         oracle::floats(expected, "logits_64")),
              2e-4f);
  }
  for (const bool recompute : {false, true}) {
    SCOPED_TRACE(recompute ? "layers run again" : "layers kept");
    parameters.gradients().zero_();
    batch_loss(ops, weights, on_device, recompute).backward();
    size_t compared = 0;
    for (const ParameterSpec& spec : parameters.specs()) {
      const std::string name = "gradient_" + spec.tensor;
      if (!expected.find(name)) continue;
      ++compared;
      const at::Tensor gradient = Parameters::view(parameters.gradients(), spec) / 63;
      std::vector<float> reference = oracle::floats(expected, name);
      const auto row = static_cast<int64_t>(reference.size()) / spec.tensor_rows;
      reference = {reference.begin() + spec.first_row * row,
                   reference.begin() + (spec.first_row + spec.rows) * row};
      float scale = 0;
      for (const float value : reference) scale = std::max(scale, std::abs(value));
      EXPECT_GT(scale, 0) << name;
      // f32 in another order: a thousandth of the largest element.
      EXPECT_LE(oracle::largest_difference(values(gradient), reference), 1e-3f * scale) << name;
    }
    EXPECT_GE(compared, 2u);
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, OracleTraining, testing::ValuesIn(oracle::kOracleCases),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace kvasir::train
