#pragma once
// Where a model's tensors come from: a folder's files, or random numbers for speed measurements.

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/safetensors.h"

namespace kvasir::models {

// Hints for get().
inline constexpr std::string_view kHeadHint =
    "are hidden_size, num_attention_heads, num_key_value_heads and head_dim right?";
inline constexpr std::string_view kMlpHint = "are hidden_size and intermediate_size right?";
inline constexpr std::string_view kVocabHint = "are vocab_size and hidden_size right?";

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // The tensor with exactly this shape, valid until drop(name). `hint` is added to the error where
  // the shape differs.
  virtual Result<formats::TensorView> get(std::string_view name, std::span<const int64_t> shape,
                                          std::string_view hint) = 0;
  virtual bool contains(std::string_view name) const = 0;
  // Gives back the memory that reading `name` took.
  virtual void drop(std::string_view name) = 0;
};

// The safetensors of a Hugging Face folder.
class FileWeights final : public WeightSource {
 public:
  explicit FileWeights(formats::WeightFiles files) : files_(std::move(files)) {}
  Result<formats::TensorView> get(std::string_view name, std::span<const int64_t> shape,
                                  std::string_view hint) override {
    return files_.get(name, shape, hint);
  }
  bool contains(std::string_view name) const override { return files_.contains(name); }
  void drop(std::string_view name) override { files_.drop(name); }

 private:
  formats::WeightFiles files_;
};

// bf16 weights of small random values, every tensor there; norms are one. Deterministic.
class RandomWeights final : public WeightSource {
 public:
  Result<formats::TensorView> get(std::string_view name, std::span<const int64_t> shape,
                                  std::string_view hint) override;
  bool contains(std::string_view) const override { return true; }
  void drop(std::string_view name) override;

 private:
  std::map<std::string, std::vector<std::byte>, std::less<>> tensors_;
};

}  // namespace kvasir::models
