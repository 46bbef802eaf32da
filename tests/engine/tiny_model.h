#pragma once
// A tiny model folder with random weights, made without any outside program.

#include <unistd.h>

#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "formats/safetensors.h"

namespace kvasir::engine {

// A Llama-architecture folder: hidden 64, 4 query and 2 KV heads of 16, tied embeddings, f32. No
// tokenizer. Removed with the object.
class TinyModel {
 public:
  explicit TinyModel(int layers = 2, int64_t positions = 1024, int64_t vocab = kVocab) {
    static int counter = 0;
    folder_ = std::filesystem::temp_directory_path() /
              ("kvasir-tiny-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
    std::filesystem::create_directories(folder_);
    write_file(folder_ / "config.json",
               R"({
      "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
      "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
      "head_dim": 16, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
      "bos_token_id": 0, "eos_token_id": 1, "num_hidden_layers": )" +
                   std::to_string(layers) + ", \"vocab_size\": " + std::to_string(vocab) +
                   ", \"max_position_embeddings\": " + std::to_string(positions) + "}")
        .value();
    add("model.embed_tokens.weight", {vocab, 64}, 0.5f);
    add("model.norm.weight", {64}, 1);
    for (int layer = 0; layer < layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      add(prefix + "input_layernorm.weight", {64}, 1);
      add(prefix + "post_attention_layernorm.weight", {64}, 1);
      add(prefix + "self_attn.q_proj.weight", {64, 64}, 0.3f);
      add(prefix + "self_attn.k_proj.weight", {32, 64}, 0.3f);
      add(prefix + "self_attn.v_proj.weight", {32, 64}, 0.3f);
      add(prefix + "self_attn.o_proj.weight", {64, 64}, 0.3f);
      add(prefix + "mlp.gate_proj.weight", {128, 64}, 0.3f);
      add(prefix + "mlp.up_proj.weight", {128, 64}, 0.3f);
      add(prefix + "mlp.down_proj.weight", {64, 128}, 0.3f);
    }
    std::vector<formats::TensorToWrite> tensors;
    for (const auto& [name, tensor] : tensors_)
      tensors.push_back({.name = name,
                         .dtype = DType::kF32,
                         .shape = tensor.shape,
                         .data = std::as_bytes(std::span(tensor.values))});
    formats::write_safetensors(folder_ / "model.safetensors", tensors).value();
  }
  ~TinyModel() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  static constexpr int64_t kVocab = 96;

 private:
  struct Tensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  void add(const std::string& name, std::vector<int64_t> shape, float scale) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values)
      value = shape.size() == 1 ? 1 + 0.1f * normal(random_) : scale * normal(random_);
    tensors_[name] = {std::move(shape), std::move(values)};
  }

  std::filesystem::path folder_;
  std::map<std::string, Tensor> tensors_;
  std::mt19937 random_{20260101};
};

}  // namespace kvasir::engine
