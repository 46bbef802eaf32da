// Gradients without another library: against numerical differences, packed against alone, in the
// precision of a GPU, and chunks of the loss.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "train/autograd_ops.h"
#include "train/models.h"

namespace kvasir::train {
namespace {

double loss_of(const Parameters& parameters, const Batch& batch) {
  const at::NoGradGuard no_gradients;
  const DeviceBatch on_device = BatchUpload(parameters.weights().config, at::kCPU).upload(batch);
  AutogradOps ops(parameters.weights(), on_device);
  return batch_loss(ops, parameters.weights(), on_device, false).item<float>();
}

at::Tensor gradients_of(const Parameters& parameters, const Batch& batch, bool recompute = false) {
  parameters.gradients().zero_();
  const DeviceBatch on_device = BatchUpload(parameters.weights().config, at::kCPU).upload(batch);
  AutogradOps ops(parameters.weights(), on_device);
  batch_loss(ops, parameters.weights(), on_device, recompute).backward();
  return parameters.gradients().clone();
}

double relative(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).norm() / expected.norm()).item<double>();
}

formats::ModelConfig rich_config() {
  // Head norms, biases, a window that cuts, a head of its own, pairs that are no whole head.
  formats::ModelConfig config = testing::tiny_config();
  config.architecture = "Qwen3ForCausalLM";
  config.attention_bias = true;
  config.tie_word_embeddings = false;
  config.sliding_window = {0, 5};
  return config;
}

TEST(Gradients, EqualNumericalDifferences) {
  for (const formats::ModelConfig& config : {testing::tiny_config(), rich_config()}) {
    SCOPED_TRACE(config.architecture);
    Parameters parameters(config, at::kCPU, at::kFloat);
    parameters.initialise(5);
    // Larger matrices, so that every part of the model matters.
    parameters.range(ParameterKind::kMatrix).of(parameters.masters()).mul_(6);
    parameters.range(ParameterKind::kEmbedding).of(parameters.masters()).mul_(6);
    const Batch batch = testing::random_batch({9, 1, 14}, config.vocab_size, 17);
    const at::Tensor gradients = gradients_of(parameters, batch);
    for (const ParameterSpec& spec : parameters.specs()) {
      // Along the gradient's own direction, where the difference is largest.
      const at::Tensor part = Parameters::view(parameters.masters(), spec);
      const at::Tensor gradient = Parameters::view(gradients, spec);
      const double norm = gradient.norm().item<double>();
      ASSERT_GT(norm, 0) << spec.tensor;
      const at::Tensor step = gradient * (4e-3 / norm);
      part.add_(step);
      const double above = loss_of(parameters, batch);
      part.sub_(step, 2);
      const double below = loss_of(parameters, batch);
      part.add_(step);
      EXPECT_NEAR((above - below) / 8e-3, norm, 0.01 * norm + 0.01) << spec.tensor;
    }
  }
}

TEST(Gradients, OfPackedDocumentsAreTheSumOfEach) {
  const formats::ModelConfig config = rich_config();
  Parameters parameters(config, at::kCPU, at::kFloat);
  parameters.initialise(6);
  const std::vector<int32_t> lengths{7, 12, 2, 30};
  const Batch packed = testing::random_batch(lengths, config.vocab_size, 23);
  at::Tensor sum;
  double loss = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const auto part = [&](const auto& values) {
      return std::decay_t<decltype(values)>(values.begin() + packed.documents[i],
                                            values.begin() + packed.documents[i + 1]);
    };
    const Batch alone{.tokens = part(packed.tokens),
                      .targets = part(packed.targets),
                      .weights = part(packed.weights),
                      .documents = {0, lengths[i]}};
    const at::Tensor gradients = gradients_of(parameters, alone);
    sum = sum.defined() ? sum + gradients : gradients;
    loss += loss_of(parameters, alone);
  }
  EXPECT_NEAR(loss_of(parameters, packed), loss, 1e-3);
  EXPECT_LE(relative(gradients_of(parameters, packed), sum), 1e-5);
}

TEST(Gradients, OfRecomputedLayersAreTheSameBits) {
  const formats::ModelConfig config = rich_config();
  Parameters parameters(config, at::kCPU, at::kFloat);
  parameters.initialise(7);
  const Batch batch = testing::random_batch({40, 20}, config.vocab_size, 29);
  const at::Tensor kept = gradients_of(parameters, batch, false);
  EXPECT_TRUE(kept.equal(gradients_of(parameters, batch, true)));
}

TEST(Gradients, InBf16AreCloseToThoseInF32) {
  const formats::ModelConfig config = rich_config();
  Parameters wide(config, at::kCPU, at::kFloat), narrow(config, at::kCPU, at::kBFloat16);
  wide.initialise(8);
  narrow.initialise(8);
  const Batch batch = testing::random_batch({40, 20}, config.vocab_size, 31);
  const at::Tensor expected = gradients_of(wide, batch);
  const double difference = relative(gradients_of(narrow, batch), expected);
  // bf16 rounds by up to 2^-9; some tens of roundings of different signs meet.
  EXPECT_LE(difference, 0.03);
  EXPECT_GT(difference, 1e-5);  // it did run in bf16
}

TEST(Gradients, LossInChunksIsTheWholeLoss) {
  // More rows than a chunk has.
  constexpr int64_t kRows = 5000, kHidden = 8, kVocab = 50;
  const auto options = at::TensorOptions().dtype(at::kFloat);
  const at::Tensor x = at::empty({kRows, kHidden}, options).normal_();
  const Parameter head{at::empty({kVocab, kHidden}, options).normal_(),
                       at::empty({kVocab, kHidden}, options).zero_()};
  DeviceBatch batch;
  batch.targets = at::empty({kRows}, at::kLong).random_(kVocab);
  batch.weights = at::empty({kRows}, options).random_(3);

  const at::Tensor leaf = x.clone().set_requires_grad(true);
  const at::Tensor loss = chunked_loss(leaf, head, batch);
  loss.backward();

  const at::Tensor whole_x = x.clone().set_requires_grad(true);
  const at::Tensor whole_head = head.value.clone().set_requires_grad(true);
  const at::Tensor logs = whole_x.matmul(whole_head.t()).log_softmax(1);
  const at::Tensor whole =
      -(logs.gather(1, batch.targets.unsqueeze(1)).squeeze(1) * batch.weights).sum();
  whole.backward();
  EXPECT_NEAR(loss.item<float>() / whole.item<float>(), 1, 1e-5);
  EXPECT_LE(relative(leaf.grad(), whole_x.grad()), 1e-5);
  EXPECT_LE(relative(head.grad, whole_head.grad()), 1e-5);
}

TEST(Gradients, BatchesThatCannotBeRightAreRefused) {
  const formats::ModelConfig config = testing::tiny_config();
  BatchUpload upload(config, at::kCPU);
  const Batch good = testing::random_batch({4, 4}, config.vocab_size, 37);
  EXPECT_NO_THROW(upload.upload(good));
  Batch token = good, documents = good, targets = good;
  token.tokens[3] = 61;
  documents.documents = {0, 4, 4, 8};
  targets.targets.pop_back();
  for (const Batch& bad : {token, documents, targets}) EXPECT_THROW(upload.upload(bad), Error);
}

}  // namespace
}  // namespace kvasir::train
