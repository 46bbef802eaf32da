#pragma once
// What config.json and generation_config.json of a Hugging Face folder say, as transformers 4 and 5
// write them. Defaults are those of transformers' configuration classes. Which architectures exist
// and what they imply is not decided here (models/family.h).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kvasir::formats {

enum class RopeScaling : uint8_t { kNone, kLinear, kDynamic, kLlama3, kYarn, kLongRope };

struct RopeConfig {
  RopeScaling scaling = RopeScaling::kNone;
  double theta = 10000;
  double factor = 1;
  int64_t original_max_positions = 0;  // max_positions where the file names none
  double low_freq_factor = 1;          // llama3
  double high_freq_factor = 4;         // llama3
  double beta_fast = 32;               // yarn
  double beta_slow = 1;
  std::optional<double> attention_factor;  // yarn, longrope
  std::optional<double> mscale;
  std::optional<double> mscale_all_dim;
  bool truncate = true;
  // longrope: divisors of the frequencies, [rotary_dim / 2], of sequences up to
  // original_max_positions and of longer ones.
  std::vector<double> short_factor, long_factor;
  double partial_rotary_factor = 1;  // of head_dim, (0, 1]
};

// Leading elements of a head that rotate.
int64_t rotary_dim(const RopeConfig& rope, int64_t head_dim);

struct ModelConfig {
  std::string architecture;  // "LlamaForCausalLM"; empty where the file names none
  std::string model_type;    // "llama"
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_q_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t vocab_size = 0;
  int64_t max_positions = 0;
  double rms_norm_eps = 1e-6;
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  bool mlp_bias = false;
  std::string hidden_act = "silu";
  std::vector<int64_t> sliding_window;  // [num_layers], 0 = full attention; empty = all full
  RopeConfig rope;
  std::optional<int32_t> bos_token;
  std::optional<int32_t> pad_token;
  std::vector<int32_t> eos_tokens;
  std::string dtype_text;  // "bfloat16"
};

struct GenerationConfig {
  std::vector<int32_t> eos_tokens;
  std::optional<int32_t> bos_token;
  std::optional<int32_t> pad_token;
  bool do_sample = false;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
};

// Errors: kMalformed (key, expected and found), kUnsupported (unknown rotary scaling). `origin`
// names the file in messages.
Result<ModelConfig> parse_model_config(std::string_view json, std::string_view origin);
Result<GenerationConfig> parse_generation_config(std::string_view json, std::string_view origin);

// Reads config.json of a folder. Errors: as above, kNotFound.
Result<ModelConfig> load_model_config(const std::filesystem::path& folder);
// Reads generation_config.json; defaults where there is none.
Result<GenerationConfig> load_generation_config(const std::filesystem::path& folder);

}  // namespace kvasir::formats
