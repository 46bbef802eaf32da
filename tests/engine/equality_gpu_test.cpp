#include "engine/equality_suite.h"
#include "engine/gpu_model.h"

namespace kvasir::engine {
namespace {

const char* no_gpu() {
  static const std::string reason = [] {
    const auto device = open_gpu(0);
    return device ? std::string() : device.error().message();
  }();
  return reason.empty() ? nullptr : reason.c_str();
}

// Logits of the tiny model reach about ten, and without determinism two chains of 16-bit roundings
// are compared: 0.3 and 0.036 were seen.
Mode on_gpu(DType dtype, bool deterministic) {
  return {.name = std::string(dtype_name(dtype)) + (deterministic ? "_deterministic" : ""),
          .make =
              [=](const std::filesystem::path& folder) {
                return std::make_unique<GpuTestModel>(folder, dtype, 96);
              },
          .deterministic = deterministic,
          .tolerance = dtype == DType::kBF16 ? 0.5f : 0.06f,
          .logprob_tolerance = 1e-4f,
          .skip = no_gpu};
}

// More decode tokens in one step than small products take: another product, another graph.
TEST(DecodeOnGpu, AWideBatchIsEachAlone) {
  if (const char* reason = no_gpu()) GTEST_SKIP() << reason;
  const TinyModel tiny;
  GpuTestModel model(tiny.folder(), DType::kBF16, 128);
  constexpr size_t kSequences = 40;
  std::vector<std::vector<TokenId>> prompts;
  std::vector<kv::SequenceId> sequences;
  std::vector<TokenId> next;
  Step step;
  for (size_t i = 0; i < kSequences; ++i) {
    prompts.push_back(random_tokens(3 + 2 * i, static_cast<uint32_t>(i)));
    next.push_back(static_cast<TokenId>(2 + i));
    sequences.push_back(model.open());
    model.run(sequences[i], prompts[i]);
    model.kv->reserve(sequences[i], std::ssize(prompts[i]) + 1).value();
  }
  for (size_t i = 0; i < kSequences; ++i) {
    StepSpan span{.tokens = std::span(next).subspan(i, 1),
                  .first_position = std::ssize(prompts[i]),
                  .page_tables = {},
                  .rope_length = std::ssize(prompts[i]) + 1};
    for (int layer = 0; layer < model.kv->geometry().layers; ++layer)
      span.page_tables.push_back(model.kv->page_table(sequences[i], layer).data());
    step.spans.push_back(span);
  }
  model.executor->run(step).value();
  std::vector<std::vector<float>> together;
  for (size_t i = 0; i < kSequences; ++i) {
    const std::span<const float> logits = model.executor->logits(i);
    together.emplace_back(logits.begin(), logits.end());
  }
  for (size_t i = 0; i < kSequences; ++i) {
    const auto alone = model.open();
    std::vector<TokenId> all = prompts[i];
    all.push_back(next[i]);
    const std::vector<float> logits = model.run(alone, all);
    EXPECT_LE(oracle::largest_difference(together[i], std::span(logits).last(TinyModel::kVocab)),
              0.5f)
        << "sequence " << i;
    model.kv->release(alone, false);
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, Equality,
                         testing::Values(on_gpu(DType::kBF16, true), on_gpu(DType::kF16, true),
                                         on_gpu(DType::kBF16, false), on_gpu(DType::kF16, false)),
                         mode_name);

}  // namespace
}  // namespace kvasir::engine
