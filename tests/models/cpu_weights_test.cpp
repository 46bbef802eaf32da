#include "models/cpu_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "kvasir/error.h"

namespace kvasir::models {
namespace {

// Tensors in memory, by name; counts what is given back.
class MapWeights final : public WeightSource {
 public:
  Result<formats::TensorView> get(std::string_view name, std::span<const int64_t> shape,
                                  std::string_view) override {
    const auto found = tensors.find(name);
    if (found == tensors.end())
      return Error(ErrorCode::kNotFound, "no tensor " + std::string(name));
    EXPECT_TRUE(std::ranges::equal(found->second.shape, shape)) << name;
    return formats::TensorView{.name = std::string(name),
                               .dtype = found->second.dtype,
                               .shape = found->second.shape,
                               .data = found->second.bytes};
  }
  bool contains(std::string_view name) const override { return tensors.contains(name); }
  void drop(std::string_view name) override { dropped.emplace_back(name); }

  struct Tensor {
    DType dtype;
    std::vector<int64_t> shape;
    std::vector<std::byte> bytes;
  };
  // Element i of a tensor is a small number of its own, exact in every dtype.
  static float value(std::string_view name, int64_t i) {
    uint32_t state = static_cast<uint32_t>(i) * 2654435761u;
    for (const char letter : name) state = state * 31 + static_cast<unsigned char>(letter);
    return static_cast<float>(static_cast<int>(state >> 25) - 64) / 64;
  }
  void add(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    Tensor tensor{dtype, std::move(shape), std::vector<std::byte>(count * dtype_bytes(dtype))};
    for (int64_t i = 0; i < count; ++i) {
      const float x = value(name, i);
      const bf16_t half = f32_to_bf16(x);
      if (dtype == DType::kF32)
        std::memcpy(tensor.bytes.data() + i * 4, &x, 4);
      else
        std::memcpy(tensor.bytes.data() + i * 2, &half, 2);
    }
    tensors[name] = std::move(tensor);
  }

  std::map<std::string, Tensor, std::less<>> tensors;
  std::vector<std::string> dropped;
};

formats::ModelConfig small_config(const std::string& architecture, bool tied) {
  formats::ModelConfig config;
  config.architecture = architecture;
  config.hidden_size = 48;
  config.intermediate_size = 80;
  config.num_layers = 3;
  config.num_q_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 20;
  config.vocab_size = 101;
  config.max_positions = 256;
  config.tie_word_embeddings = tied;
  config.attention_bias = config.mlp_bias = true;
  config.sliding_window = {0, 16, 0};
  return config;
}

std::shared_ptr<MapWeights> weights_for(const formats::ModelConfig& config,
                                        DType dtype = DType::kBF16) {
  auto source = std::make_shared<MapWeights>();
  const FamilyTraits& family = find_family(config);
  const int64_t q = config.num_q_heads * config.head_dim;
  const int64_t kv = config.num_kv_heads * config.head_dim;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  source->add("model.embed_tokens.weight", dtype, {config.vocab_size, hidden});
  source->add("model.norm.weight", dtype, {hidden});
  if (!config.tie_word_embeddings)
    source->add("lm_head.weight", dtype, {config.vocab_size, hidden});
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const auto linear = [&](const std::string& name, int64_t n, int64_t k, bool has_bias) {
      source->add(prefix + name + ".weight", dtype, {n, k});
      if (has_bias) source->add(prefix + name + ".bias", DType::kF32, {n});
    };
    source->add(prefix + "input_layernorm.weight", dtype, {hidden});
    source->add(prefix + "post_attention_layernorm.weight", dtype, {hidden});
    const bool qkv_bias = has_qkv_bias(family, config), mlp_bias = has_mlp_bias(family, config);
    if (family.names.qkv.empty()) {
      linear("self_attn.q_proj", q, hidden, qkv_bias);
      linear("self_attn.k_proj", kv, hidden, qkv_bias);
      linear("self_attn.v_proj", kv, hidden, qkv_bias);
    } else {
      linear("self_attn.qkv_proj", q + 2 * kv, hidden, qkv_bias);
    }
    linear("self_attn.o_proj", hidden, q, has_o_bias(family, config));
    if (family.names.gate_up.empty()) {
      linear("mlp.gate_proj", inner, hidden, mlp_bias);
      linear("mlp.up_proj", inner, hidden, mlp_bias);
    } else {
      linear("mlp.gate_up_proj", 2 * inner, hidden, mlp_bias);
    }
    linear("mlp.down_proj", hidden, inner, mlp_bias);
    if (family.has_qk_norm) {
      source->add(prefix + "self_attn.q_norm.weight", dtype, {config.head_dim});
      source->add(prefix + "self_attn.k_norm.weight", dtype, {config.head_dim});
    }
    for (const std::string_view norm : {family.names.o_norm, family.names.down_norm})
      if (!norm.empty()) source->add(prefix + std::string(norm), dtype, {hidden});
  }
  return source;
}

// Rows of a tensor without ".weight"; rows = 0: all of them.
struct Rows {
  std::string name;
  int64_t first = 0;
  int64_t rows = 0;
};

// The stacked rows of `parts` in a plain packed weight.
void expect_rows(const PackedLinear& linear, std::initializer_list<Rows> parts,
                 const MapWeights& source) {
  std::vector<float> row(linear.desc.k);
  int64_t packed_row = 0;
  for (const auto& [part, first, rows] : parts) {
    const std::string name = part + ".weight";
    const int64_t n = rows ? rows : source.tensors.find(name)->second.shape[0];
    for (int64_t i = first; i < first + n; ++i, ++packed_row) {
      kernels::unpack_weight_row(linear.desc, linear.weight, packed_row, row.data());
      for (int64_t j = 0; j < linear.desc.k; ++j)
        ASSERT_EQ(row[j], MapWeights::value(name, i * linear.desc.k + j)) << name << " " << i;
      if (!linear.bias.empty()) {
        ASSERT_EQ(linear.bias[packed_row], MapWeights::value(part + ".bias", i)) << part;
      }
    }
  }
  EXPECT_EQ(packed_row, linear.desc.n);
}

void expect_pair(const PackedLinear& pair, const Rows& gate, const Rows& up,
                 const MapWeights& source) {
  ThreadPool pool(1);
  std::vector<kernels::WeightBlock> blocks;
  std::vector<float> bias;
  for (const Rows& part : {gate, up}) {
    const auto& tensor = source.tensors.find(part.name + ".weight")->second;
    const int64_t rows = part.rows ? part.rows : tensor.shape[0];
    const size_t row_bytes = tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]);
    blocks.push_back({tensor.bytes.data() + part.first * row_bytes, tensor.dtype, rows});
    for (int64_t i = part.first; i < part.first + rows; ++i)
      bias.push_back(MapWeights::value(part.name + ".bias", i));
  }
  std::vector<std::byte> expected(kernels::packed_weight_bytes(pair.desc));
  kernels::pack_weight({.pool = pool}, pair.desc, blocks, expected.data());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), pair.weight));
  if (!pair.bias.empty()) {
    EXPECT_EQ(pair.bias, bias);
  }
}

TEST(CpuWeights, EveryTensorComesToItsPlace) {
  ThreadPool pool(2);
  for (const FamilyTraits& family : families())
    for (const bool tied : {false, true})
      for (const DType dtype : {DType::kBF16, DType::kF32}) {
        const std::string architecture(family.architecture);
        SCOPED_TRACE(architecture + (tied ? " tied " : " ") + std::string(dtype_name(dtype)));
        const formats::ModelConfig config = small_config(architecture, tied);
        const auto source = weights_for(config, dtype);
        const CpuWeights weights =
            load_cpu_weights({.pool = pool}, config, source, {.dtype = dtype, .isa = best_isa()});
        ASSERT_EQ(weights.layers.size(), 3u);
        for (int64_t i = 0; i < 3; ++i) {
          const CpuLayerWeights& layer = weights.layers[i];
          const std::string at = "model.layers." + std::to_string(i) + ".";
          Rows q{at + "self_attn.q_proj"}, k{at + "self_attn.k_proj"}, v{at + "self_attn.v_proj"};
          if (!family.names.qkv.empty()) {
            const std::string qkv = at + "self_attn.qkv_proj";
            q = {qkv, 0, 80}, k = {qkv, 80, 40}, v = {qkv, 120, 40};
          }
          Rows gate{at + "mlp.gate_proj"}, up{at + "mlp.up_proj"};
          if (!family.names.gate_up.empty())
            gate = {at + "mlp.gate_up_proj", 0, 80}, up = {at + "mlp.gate_up_proj", 80, 80};
          if (i < 2) {
            expect_rows(layer.qkv, {q, k, v}, *source);
            EXPECT_FALSE(layer.q.present() || layer.kv.present());
          } else {
            expect_rows(layer.q, {q}, *source);
            expect_rows(layer.kv, {k, v}, *source);
            EXPECT_FALSE(layer.qkv.present());
          }
          expect_rows(layer.o, {{at + "self_attn.o_proj"}}, *source);
          expect_rows(layer.down, {{at + "mlp.down_proj"}}, *source);
          expect_pair(layer.gate_up, gate, up, *source);
          EXPECT_EQ(layer.qkv.bias.empty() && layer.q.bias.empty(), !has_qkv_bias(family, config));
          EXPECT_EQ(layer.gate_up.bias.empty(), !has_mlp_bias(family, config));
          EXPECT_EQ(layer.q_norm.empty(), !family.has_qk_norm);
          EXPECT_EQ(layer.input_norm[5], MapWeights::value(at + "input_layernorm.weight", 5));
          EXPECT_EQ(layer.post_norm[7],
                    MapWeights::value(at + "post_attention_layernorm.weight", 7));
          EXPECT_EQ(layer.window, config.sliding_window[i]);
          EXPECT_EQ(layer.o_norm.empty() && layer.down_norm.empty(), !has_output_norms(family));
          if (has_output_norms(family)) {
            EXPECT_EQ(layer.o_norm[9], MapWeights::value(at + std::string(family.names.o_norm), 9));
            EXPECT_EQ(layer.down_norm[11],
                      MapWeights::value(at + std::string(family.names.down_norm), 11));
          }
        }
        expect_rows(weights.head, {{tied ? "model.embed_tokens" : "lm_head"}}, *source);
        EXPECT_EQ(weights.embedding.data.data(),
                  source->tensors.find("model.embed_tokens.weight")->second.bytes.data());
      }
}

TEST(CpuWeights, MemoryIsWhatWasPlanned) {
  ThreadPool pool(1);
  for (const FamilyTraits& family : families())
    for (const bool tied : {false, true})
      for (const DType dtype : {DType::kBF16, DType::kF32}) {
        const formats::ModelConfig config = small_config(std::string(family.architecture), tied);
        int64_t last_done = 0, total = 0;
        const CpuWeightsOptions options{
            .dtype = dtype, .isa = best_isa(), .on_progress = [&](int64_t done, int64_t all) {
              EXPECT_GT(done, last_done);
              last_done = done;
              total = all;
            }};
        const int64_t planned = cpu_weight_bytes(config, options);
        const CpuWeights weights =
            load_cpu_weights({.pool = pool}, config, weights_for(config), options);
        EXPECT_EQ(static_cast<int64_t>(weights.memory.bytes()), planned);
        EXPECT_EQ(last_done, planned);
        EXPECT_EQ(total, planned);
        // Every packed weight in it, one behind the other.
        const std::byte* expected = weights.memory.data();
        const auto follows = [&](const PackedLinear& linear) {
          if (!linear.present()) return;
          EXPECT_EQ(linear.weight, expected);
          expected += (kernels::packed_weight_bytes(linear.desc) + 63) / 64 * 64;
        };
        for (const CpuLayerWeights& layer : weights.layers)
          for (const PackedLinear* linear :
               {&layer.qkv, &layer.q, &layer.kv, &layer.o, &layer.gate_up, &layer.down})
            follows(*linear);
        follows(weights.head);
        EXPECT_EQ(expected, weights.memory.data() + planned);
      }
}

TEST(CpuWeights, CountsParametersAsPublished) {
  for (const FamilyTraits& family : families())
    for (const bool tied : {false, true}) {
      const formats::ModelConfig config = small_config(std::string(family.architecture), tied);
      int64_t elements = 0;
      const auto source = weights_for(config);
      for (const auto& [name, tensor] : source->tensors) {
        int64_t count = 1;
        for (const int64_t extent : tensor.shape) count *= extent;
        elements += count;
      }
      EXPECT_EQ(parameter_count(config), elements) << family.architecture;
    }
}

TEST(CpuWeights, GivesBackEveryTensorButTheEmbedding) {
  ThreadPool pool(1);
  for (const char* architecture : {"Qwen3ForCausalLM", "Phi3ForCausalLM", "Glm4ForCausalLM"}) {
    const formats::ModelConfig config = small_config(architecture, false);
    const auto source = weights_for(config);
    load_cpu_weights({.pool = pool}, config, source, {.isa = best_isa()});
    std::vector<std::string> dropped = source->dropped;
    std::ranges::sort(dropped);
    EXPECT_EQ(std::ranges::adjacent_find(dropped), dropped.end());
    for (const auto& [name, tensor] : source->tensors)
      EXPECT_EQ(std::ranges::binary_search(dropped, name), name != "model.embed_tokens.weight")
          << name;
  }
}

// Random tensors; how many bytes of them are there at once.
class CountingWeights final : public WeightSource {
 public:
  Result<formats::TensorView> get(std::string_view name, std::span<const int64_t> shape,
                                  std::string_view hint) override {
    Result<formats::TensorView> view = source_.get(name, shape, hint);
    there_[std::string(name)] = view.value().data.size();
    size_t bytes = 0;
    for (const auto& [other, size] : there_) bytes += size;
    most = std::max(most, bytes);
    return view;
  }
  bool contains(std::string_view) const override { return true; }
  void drop(std::string_view name) override {
    source_.drop(name);
    there_.erase(std::string(name));
  }

  size_t most = 0;

 private:
  RandomWeights source_;
  std::map<std::string, size_t> there_;
};

TEST(CpuWeights, SourcesAreThereForABatchOfMatrices) {
  ThreadPool pool(2);
  formats::ModelConfig config = small_config("LlamaForCausalLM", true);
  config.attention_bias = config.mlp_bias = false;
  config.hidden_size = 256;
  config.intermediate_size = 4096;  // 6 MiB a layer
  config.num_layers = 8;
  config.sliding_window.clear();
  const auto source = std::make_shared<CountingWeights>();
  const CpuWeights weights = load_cpu_weights({.pool = pool}, config, source, {.isa = best_isa()});
  EXPECT_GT(weights.memory.bytes(), size_t{48} << 20);
  EXPECT_LE(source->most, (size_t{16} << 20) + 4096);  // norms besides
  EXPECT_GT(source->most, size_t{12} << 20);
}

TEST(CpuWeights, MissingTensorsAreNamed) {
  ThreadPool pool(1);
  for (const char* architecture : {"Qwen3ForCausalLM", "Phi3ForCausalLM", "Glm4ForCausalLM"}) {
    const formats::ModelConfig config = small_config(architecture, false);
    const auto complete = weights_for(config);
    for (const auto& [name, tensor] : complete->tensors) {
      const auto source = std::make_shared<MapWeights>(*complete);
      source->tensors.erase(name);
      try {
        load_cpu_weights({.pool = pool}, config, source, {.isa = best_isa()});
        ADD_FAILURE() << "loaded without " << name;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kNotFound);
        EXPECT_NE(error.message().find(name), std::string::npos) << error.message();
      }
    }
  }
}

}  // namespace
}  // namespace kvasir::models
