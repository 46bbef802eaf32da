// Weights that do not fit their configuration, from a folder: each message names the tensor, what
// was expected, what was found and what to check.

#include "models/weight_source.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>

#include "kvasir/error.h"
#include "models/cpu_weights.h"

namespace kvasir::models {
namespace {

formats::ModelConfig config() {
  formats::ModelConfig result;
  result.architecture = "LlamaForCausalLM";
  result.hidden_size = 16;
  result.intermediate_size = 24;
  result.num_layers = 1;
  result.num_q_heads = 2;
  result.num_kv_heads = 1;
  result.head_dim = 8;
  result.vocab_size = 10;
  result.max_positions = 64;
  result.tie_word_embeddings = true;
  return result;
}

std::vector<formats::TensorToWrite> tensors() {
  static const std::vector<std::byte> zeros(4096);
  const auto tensor = [](const char* name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    return formats::TensorToWrite{.name = name,
                                  .dtype = DType::kBF16,
                                  .shape = std::move(shape),
                                  .data = std::span(zeros).first(count * 2)};
  };
  return {tensor("model.embed_tokens.weight", {10, 16}),
          tensor("model.norm.weight", {16}),
          tensor("model.layers.0.input_layernorm.weight", {16}),
          tensor("model.layers.0.post_attention_layernorm.weight", {16}),
          tensor("model.layers.0.self_attn.q_proj.weight", {16, 16}),
          tensor("model.layers.0.self_attn.k_proj.weight", {8, 16}),
          tensor("model.layers.0.self_attn.v_proj.weight", {8, 16}),
          tensor("model.layers.0.self_attn.o_proj.weight", {16, 16}),
          tensor("model.layers.0.mlp.gate_proj.weight", {24, 16}),
          tensor("model.layers.0.mlp.up_proj.weight", {24, 16}),
          tensor("model.layers.0.mlp.down_proj.weight", {16, 24})};
}

class FolderWeights : public ::testing::Test {
 protected:
  FolderWeights()
      : folder_(std::filesystem::temp_directory_path() /
                ("kvasir-weights-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
  }
  ~FolderWeights() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  void write(std::span<const formats::TensorToWrite> list) {
    formats::write_safetensors(folder_ / "model.safetensors", list).value();
  }
  CpuWeights load() {
    ThreadPool pool(1);
    auto files = formats::WeightFiles::open(folder_).value();
    return load_cpu_weights({.pool = pool}, config(),
                            std::make_shared<FileWeights>(std::move(files)), {.isa = best_isa()});
  }
  // The refusal of the folder with one tensor changed.
  std::string refusal(std::string_view name,
                      const std::function<void(formats::TensorToWrite&)>& change) {
    std::vector<formats::TensorToWrite> list = tensors();
    for (formats::TensorToWrite& tensor : list)
      if (tensor.name == name) change(tensor);
    write(list);
    try {
      load();
    } catch (const Error& error) {
      return error.message();
    }
    return "accepted";
  }

  std::filesystem::path folder_;
};

void expect_all(const std::string& message, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << "\"" << part << "\" is not in: " << message;
}

TEST_F(FolderWeights, ACompleteFolderLoads) {
  write(tensors());
  const CpuWeights weights = load();
  EXPECT_EQ(weights.embedding.shape, (std::vector<int64_t>{10, 16}));
  EXPECT_EQ(weights.parameters, parameter_count(config()));
}

TEST_F(FolderWeights, WrongShapes) {
  expect_all(refusal("model.layers.0.self_attn.k_proj.weight",
                     [](auto& tensor) {
                       tensor.shape = {4, 16};
                       tensor.data = tensor.data.first(4 * 16 * 2);
                     }),
             {"model.layers.0.self_attn.k_proj.weight", "expected [8, 16]", "found", "[4, 16]",
              "num_key_value_heads"});
  expect_all(
      refusal("model.layers.0.mlp.down_proj.weight", [](auto& tensor) { tensor.shape = {24, 16}; }),
      {"model.layers.0.mlp.down_proj.weight", "expected [16, 24]", "[24, 16]",
       "intermediate_size"});
  expect_all(refusal("model.embed_tokens.weight", [](auto& tensor) { tensor.shape = {16, 10}; }),
             {"model.embed_tokens.weight", "expected [10, 16]", "[16, 10]", "vocab_size"});
  expect_all(refusal("model.norm.weight", [](auto& tensor) { tensor.shape = {4, 4}; }),
             {"model.norm.weight", "expected [16]", "[4, 4]"});
}

TEST_F(FolderWeights, MissingTensors) {
  expect_all(refusal("model.layers.0.mlp.up_proj.weight",
                     [](auto& tensor) { tensor.name = "model.layers.0.mlp.other.weight"; }),
             {"model.layers.0.mlp.up_proj.weight", "[24, 16]", "none of that name"});
}

// The same file with the header's word for one dtype replaced by another of the same length.
TEST_F(FolderWeights, WrongDtypes) {
  std::vector<formats::TensorToWrite> list = tensors();
  write(list);
  std::string bytes = read_file(folder_ / "model.safetensors").value();
  const size_t name = bytes.find("model.layers.0.self_attn.o_proj.weight");
  const size_t word = bytes.find("BF16\"", name);
  bytes.replace(word, 5, "I16\" ");
  write_file(folder_ / "model.safetensors", bytes).value();
  try {
    load();
    ADD_FAILURE() << "loaded";
  } catch (const Error& error) {
    expect_all(error.message(), {"model.layers.0.self_attn.o_proj.weight", "expected [16, 16]",
                                 "BF16", "found [16, 16] I16"});
  }
}

TEST(RandomWeights, AreTheSameAgainAndOfUnitGain) {
  RandomWeights one, two;
  const int64_t shape[] = {64, 256}, norm[] = {32};
  const auto x = one.get("a.weight", shape, "").value();
  const auto y = two.get("a.weight", shape, "").value();
  ASSERT_EQ(x.data.size(), 64u * 256 * 2);
  EXPECT_TRUE(std::equal(x.data.begin(), x.data.end(), y.data.begin()));
  double squares = 0;
  for (size_t i = 0; i < x.data.size() / 2; ++i) {
    bf16_t bits;
    std::memcpy(&bits, x.data.data() + 2 * i, 2);
    squares += bf16_to_f32(bits) * bf16_to_f32(bits);
  }
  EXPECT_NEAR(squares / 64, 1, 0.05);  // of an output, for inputs of variance one
  const auto ones = one.get("a.norm", norm, "").value();
  for (int i = 0; i < 32; ++i) {
    bf16_t bits;
    std::memcpy(&bits, ones.data.data() + 2 * i, 2);
    EXPECT_EQ(bf16_to_f32(bits), 1);
  }
  one.drop("a.weight");
  EXPECT_TRUE(one.contains("a.weight"));
}

}  // namespace
}  // namespace kvasir::models
