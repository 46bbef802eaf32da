#pragma once
// Small models and batches that the tests of training share.

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/file.h"
#include "formats/model_config.h"
#include "train/trainer.h"

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

// The config.json that says the same as tiny_config(), and tokenizer files to copy.
inline void write_tiny_model(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write_file(folder / "config.json", R"({"architectures": ["LlamaForCausalLM"],
    "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 61,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "tie_word_embeddings": true, "torch_dtype": "bfloat16"})")
      .value();
  write_file(folder / "tokenizer_config.json", "{}").value();
}

// Batches made of their index; `repeats`: always the first.
class RandomBatches final : public BatchSource {
 public:
  explicit RandomBatches(bool repeats = false, int rank = 0, int size = 1, int64_t batches = 1)
      : repeats_(repeats), rank_(rank), size_(size), batches_(batches) {}
  Batch next() override {
    const int64_t index = repeats_ ? 0 : index_ * size_ + rank_;
    ++index_;
    return random_batch({24, 8}, 61, static_cast<uint64_t>(1000 + index));
  }
  int64_t batches(int64_t) const override { return batches_; }
  std::string position() const override { return std::to_string(index_); }
  void seek(const std::string& position, int64_t step) override {
    index_ = position.empty() ? step * batches_ : std::stoll(position);
  }

 private:
  bool repeats_;
  int rank_, size_;
  int64_t batches_;
  int64_t index_ = 0;
};

// A folder below the system's temporary one, gone at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = std::filesystem::temp_directory_path() / "kvasir-train-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace kvasir::train::testing
