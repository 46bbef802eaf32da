#pragma once
// A model with executor and KV manager for tests, and runs over it chunk by chunk.

#include <filesystem>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "engine/cpu_executor.h"
#include "engine/load_model.h"
#include "formats/model_config.h"
#include "kv/kv_manager.h"
#include "models/cpu_weights.h"

namespace kvasir::engine {

// On whatever device the executor is for.
class ModelRunner {
 public:
  ModelRunner(const std::filesystem::path& folder, int threads)
      : pool(threads), config(formats::load_model_config(folder).value()) {}
  virtual ~ModelRunner() = default;

  models::ScratchOptions scratch() const {
    return {.max_rows = 512,
            .max_logit_rows = 512,
            .max_spans = 64,
            .max_length = model_max_length(config)};
  }

  // Runs the next tokens of a sequence and commits them; logits of every row: [tokens, vocab].
  std::vector<float> run(kv::SequenceId sequence, std::span<const TokenId> tokens,
                         bool deterministic = false, int64_t rope_length = 0) {
    const int64_t first = kv->length(sequence);
    const int64_t end = first + static_cast<int64_t>(tokens.size());
    kv->reserve(sequence, end).value();
    StepSpan span{.tokens = tokens,
                  .first_position = first,
                  .page_tables = {},
                  .rope_length = rope_length ? rope_length : end,
                  .is_prefill = tokens.size() > 1,
                  .logits = StepSpan::Logits::kAll};
    for (int layer = 0; layer < kv->geometry().layers; ++layer)
      span.page_tables.push_back(kv->page_table(sequence, layer).data());
    executor->run({.spans = {span}, .deterministic = deterministic, .cancel = nullptr}).value();
    kv->commit(sequence, tokens);
    const std::span<const float> logits = executor->logits(0);
    return {logits.begin(), logits.end()};
  }

  kv::SequenceId open() { return kv->open(next_domain_++, std::vector<TokenId>{0}); }

  ThreadPool pool;
  formats::ModelConfig config;
  std::unique_ptr<kv::KvManager> kv;
  std::unique_ptr<Executor> executor;

 private:
  kv::Domain next_domain_ = 1;  // every sequence its own: nothing is shared unless a test wants it
};

// On the CPU.
class TestModel : public ModelRunner {
 public:
  TestModel(const std::filesystem::path& folder, DType dtype, int64_t blocks = 64, int threads = 2,
            Isa isa = best_isa())
      : ModelRunner(folder, threads) {
    weights = models::load_cpu_weights(
        {.pool = pool}, config,
        std::make_shared<models::FileWeights>(formats::WeightFiles::open(folder).value()),
        {.dtype = dtype, .isa = isa, .on_progress = nullptr});
    kv = std::make_unique<kv::KvManager>(kv_geometry(config, dtype), blocks);
    executor = std::make_unique<CpuExecutor>(pool, weights, kv->page_pool(), scratch());
  }
  ~TestModel() override { executor.reset(); }  // before its weights

  models::CpuWeights weights;
};

}  // namespace kvasir::engine
