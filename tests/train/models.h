#pragma once
// Small models and batches that the tests of training share.

#include <random>

#include "formats/model_config.h"
#include "train/batch.h"

namespace kvasir::train::testing {

inline formats::ModelConfig tiny_config() {
  formats::ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.model_type = "llama";
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_layers = 2;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 8;
  config.vocab_size = 61;
  config.max_positions = 64;
  config.tie_word_embeddings = true;
  config.rope.original_max_positions = 64;
  return config;
}

// Documents of random tokens; the target is the next token, a document's last row counts nothing.
inline Batch random_batch(const std::vector<int32_t>& lengths, int64_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  Batch batch{.documents = {0}};
  for (const int32_t length : lengths) {
    for (int32_t i = 0; i <= length; ++i) {
      const auto token = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
      if (i > 0) batch.targets.push_back(token);
      if (i < length) batch.tokens.push_back(token);
    }
    batch.weights.resize(batch.tokens.size(), 1);
    batch.weights.back() = 0;
    batch.documents.push_back(batch.documents.back() + length);
  }
  return batch;
}

}  // namespace kvasir::train::testing
