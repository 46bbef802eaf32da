// Every family and option on the GPU against the CPU in f32.

#include <gtest/gtest.h>

#include "engine/gpu_model.h"
#include "oracle_models.h"

namespace kvasir::engine {
namespace {

using oracle::ids;

// Sum of squared differences over the sum of squares of the reference.
double nmse(std::span<const float> found, std::span<const float> reference) {
  double differences = 0, squares = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double difference = double{found[i]} - reference[i];
    differences += difference * difference;
    squares += double{reference[i]} * reference[i];
  }
  return differences / squares;
}

class FamiliesOnGpu : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (const auto device = open_gpu(0); !device) GTEST_SKIP() << device.error().message();
    if (oracle::oracle_models().empty())
      GTEST_SKIP() << "the oracle environment .venv-oracle is not installed; run ./dev test";
    ASSERT_NE(oracle::oracle_models(), "failed") << "model_oracle.py failed";
    folder_ = oracle::oracle_models() / GetParam();
    const auto config = formats::load_model_config(folder_).value();
    if (const auto refusal = gpu_shape_refusal(config)) GTEST_SKIP() << refusal->message();
  }
  // A prompt in two chunks, then tokens one by one: logits of every position.
  static std::vector<float> all_logits(ModelRunner& model, std::span<const TokenId> tokens) {
    const auto sequence = model.open();
    const auto length = static_cast<int64_t>(tokens.size());
    std::vector<float> logits = model.run(sequence, tokens.first(200), false, length);
    const auto add = [&](std::span<const TokenId> piece) {
      const std::vector<float> rows = model.run(sequence, piece, false, length);
      logits.insert(logits.end(), rows.begin(), rows.end());
    };
    add(tokens.subspan(200, 80));
    for (size_t i = 280; i < tokens.size(); ++i) add(tokens.subspan(i, 1));
    model.kv->release(sequence, false);
    return logits;
  }

  std::filesystem::path folder_;
};

// 16-bit weights, activations and KV err about as much on one device as on the other.
TEST_P(FamiliesOnGpu, LogitsAreTheCpus) {
  const auto file = formats::SafetensorsFile::open(folder_ / "expected.safetensors").value();
  const std::vector<TokenId> tokens = ids(file, "ids_300");
  TestModel reference(folder_, DType::kF32), rounded(folder_, DType::kBF16);
  const std::vector<float> expected = all_logits(reference, tokens);
  const double of_cpu = nmse(all_logits(rounded, tokens), expected);
  GpuTestModel bf16(folder_, DType::kBF16), f16(folder_, DType::kF16);
  EXPECT_LE(nmse(all_logits(bf16, tokens), expected), 2 * of_cpu + 1e-6);
  EXPECT_LE(nmse(all_logits(f16, tokens), expected), of_cpu / 8 + 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Cases, FamiliesOnGpu, testing::ValuesIn(oracle::kOracleCases),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace kvasir::engine
