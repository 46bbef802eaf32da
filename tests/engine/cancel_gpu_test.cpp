// A step of a large model ends soon after it is cancelled, wherever it is.

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "engine/backend.h"
#include "engine/gpu.h"

namespace kvasir::engine {
namespace {

// Layers of the 8B shape; few of them, as what is queued after a cancellation does not depend on
// their number.
formats::ModelConfig large_shape() {
  formats::ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.model_type = "llama";
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_layers = 8;
  config.num_q_heads = 32;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.vocab_size = 1024;
  config.max_positions = 131072;
  config.rms_norm_eps = 1e-5;
  config.hidden_act = "silu";
  return config;
}

TEST(CancelOnGpu, EndsWithinAFifthOfASecondAtFullContext) {
  ResolvedModel model;
  if (auto device = open_gpu(0))
    model.gpu = device.value();
  else
    GTEST_SKIP() << device.error().message();
  model.config = large_shape();
  ThreadPool pool(4);
  const auto backend = load_backend(pool, model, std::make_shared<models::RandomWeights>());
  constexpr int64_t kChunk = 8192, kLength = 131072;
  const kv::KvGeometry geometry{.layers = 8, .dtype = DType::kBF16, .kv_heads = 8, .head_dim = 128};
  kv::KvManager kv(geometry, kLength / 64 + 1, backend->page_memory());
  const auto executor = backend->make_executor(
      kv, {.max_rows = kChunk, .max_logit_rows = 64, .max_spans = 1, .max_length = kLength});
  const auto sequence = kv.open(0, std::vector<TokenId>{0});
  kv.reserve(sequence, kLength).value();
  std::vector<TokenId> tokens(kChunk);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i % 1000);
  // The last chunk of the longest prompt: its layers take longest.
  StepSpan span{.tokens = tokens,
                .first_position = kLength - kChunk,
                .rope_length = kLength,
                .is_prefill = true};
  for (int layer = 0; layer < 8; ++layer)
    span.page_tables.push_back(kv.page_table(sequence, layer).data());
  using Clock = std::chrono::steady_clock;
  ASSERT_TRUE(executor->run({.spans = {span}}));  // warm
  double worst = 0;
  for (const int delay_ms : {0, 30, 60, 100}) {
    CancelToken cancel;
    Clock::time_point cancelled;
    std::thread canceller([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
      cancelled = Clock::now();
      cancel.cancel();
    });
    const auto result = executor->run({.spans = {span}, .cancel = &cancel});
    const auto ended = Clock::now();
    canceller.join();
    ASSERT_FALSE(result) << "the step was over before " << delay_ms << " ms";
    EXPECT_EQ(result.error().code(), ErrorCode::kCancelled);
    worst = std::max(worst, std::chrono::duration<double>(ended - cancelled).count());
  }
  RecordProperty("worst_seconds", std::to_string(worst));
  EXPECT_LT(worst, 0.2);
}

}  // namespace
}  // namespace kvasir::engine
