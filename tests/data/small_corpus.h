#pragma once
// A corpus, a recipe and a source of samples for the tests of batches.

#include <algorithm>
#include <map>
#include <string>

#include "base/thread_pool.h"
#include "data/batch_source.h"
#include "data/bpe_trainer.h"
#include "formats/files.h"

namespace kvasir::data {

inline constexpr int32_t kBegin = 0;
// Behind every token of a text; texts have them nowhere.
inline constexpr int32_t kSampleToken = 1000;

// Texts whose tokens are bytes, so that where a token comes from can be read off it: text number t
// has the letters 'a' + t, in lines that count up.
class SmallCorpus {
 public:
  explicit SmallCorpus(const std::vector<int64_t>& sizes) {
    for (size_t t = 0; t < sizes.size(); ++t) {
      std::string text;
      for (int64_t line = 0; static_cast<int64_t>(text.size()) < sizes[t]; ++line)
        text += static_cast<char>('a' + t) + std::to_string(line) + "\n";
      text.resize(static_cast<size_t>(sizes[t]));
      folder_.write(std::string(1, static_cast<char>('a' + t)) + ".txt", text);
    }
    folder_.write("tokenizer.json", tokenizer_json(train_bpe({}, chat_tokens(), 261), true));
    ThreadPool pool(1);
    options_ = {.manifest = make_manifest(folder_.path(), pool).value(),
                .folder = folder_.path(),
                .tokenizer_json = folder_.path() / "tokenizer.json",
                .shards = folder_.path() / "shards",
                .shard_bytes = 1000};
    corpus_ = Corpus::open(options_, pool).value();
  }

  const Corpus& corpus() const { return corpus_; }

 private:
  formats::TemporaryFolder folder_;
  CorpusOptions options_;
  Corpus corpus_;
};

// Samples that say in their tokens what they were asked for: every answer is 3 tokens of weight 1.
class FakeSamples final : public SampleSource {
 public:
  Sample make(const SampleRequest& request) const override {
    if (request.task == "broken") throw Error(ErrorCode::kInternal, "a sample that fails");
    Sample sample;
    if (request.most_tokens < 8) return sample;
    const int64_t size = request.most_tokens - static_cast<int64_t>(request.seed % 4);
    for (int64_t i = 0; i < size; ++i) {
      const bool is_answer = i >= size - 3;
      sample.tokens.push_back(kSampleToken + (request.is_held_out ? 5000 : 0) +
                              static_cast<int32_t>((request.seed + static_cast<uint64_t>(i)) % 97));
      sample.weights.push_back(is_answer ? 1.0f : 0.05f);
    }
    sample.hops = {2};
    return sample;
  }
};

inline Recipe small_recipe(int64_t sequence, int64_t sequences, int64_t steps, Mixture mixture) {
  Recipe recipe;
  recipe.name = "small";
  recipe.seed = 3;
  recipe.data.least_sample = 64;
  recipe.phases.push_back({.sequence = sequence,
                           .tokens = sequence * sequences * steps,
                           .batch_tokens = sequence * sequences,
                           .mixture = std::move(mixture)});
  return recipe;
}

}  // namespace kvasir::data
