#include "models/cpu_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/check.h"

namespace kvasir::models {
namespace {

using formats::ModelConfig;
using formats::TensorView;
using kernels::PackedDesc;
using kernels::WeightLayout;

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// The packed shapes of a model: every linear in the order in which memory is handed out.
struct LayerDescs {
  PackedDesc qkv, q, kv, o, gate_up, down;
};

struct ModelDescs {
  std::vector<LayerDescs> layers;
  PackedDesc head;
  size_t bytes = 0;
};

ModelDescs describe(const ModelConfig& config, const CpuWeightsOptions& options) {
  ModelDescs model;
  const auto desc = [&](int64_t n, int64_t k, WeightLayout layout = WeightLayout::kPlain) {
    PackedDesc result{.dtype = options.dtype, .layout = layout, .n = n, .k = k, .isa = options.isa};
    model.bytes += aligned(kernels::packed_weight_bytes(result));
    return result;
  };
  const int64_t q_size = config.num_q_heads * config.head_dim;
  const int64_t kv_size = config.num_kv_heads * config.head_dim;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    LayerDescs layer;
    if (i + 1 < config.num_layers) {
      layer.qkv = desc(q_size + 2 * kv_size, config.hidden_size);
    } else {
      layer.q = desc(q_size, config.hidden_size);
      layer.kv = desc(2 * kv_size, config.hidden_size);
    }
    layer.o = desc(config.hidden_size, q_size);
    layer.gate_up = desc(2 * config.intermediate_size, config.hidden_size, WeightLayout::kGatePair);
    layer.down = desc(config.hidden_size, config.intermediate_size);
    model.layers.push_back(layer);
  }
  model.head = desc(config.vocab_size, config.hidden_size);
  return model;
}

class Loader {
 public:
  Loader(const kernels::CpuContext& context, const CpuWeightsOptions& options, CpuWeights& weights,
         size_t bytes)
      : context_(context), options_(options), weights_(weights), total_(bytes) {}

  std::vector<float> vector(const std::string& name, int64_t size, std::string_view hint) {
    const int64_t shape[] = {size};
    const TensorView view = weights_.source->get(name, shape, hint).value();
    std::vector<float> values(size);
    const DType dtype = view.dtype.value();
    for (int64_t i = 0; i < size; ++i) values[i] = read_f32(view.data.data(), dtype, i);
    weights_.source->drop(name);
    return values;
  }

  // The parts, stacked along n, and their biases where there are any. The weight is there after the
  // next flush.
  PackedLinear linear(const PackedDesc& desc, const std::string& prefix,
                      std::span<const WeightPart> parts, bool has_bias, std::string_view hint,
                      std::string_view suffix = ".weight") {
    const size_t bytes = aligned(kernels::packed_weight_bytes(desc));
    if (used_ + bytes - packed_ > kBatchBytes) flush();
    KVASIR_CHECK(used_ + bytes <= weights_.memory.bytes());
    Waiting waiting{.desc = desc, .out = weights_.memory.data() + used_};
    PackedLinear result{.desc = desc, .weight = waiting.out};
    for (const WeightPart& part : parts) {
      const std::string name = prefix + std::string(part.name);
      const std::string tensor = name + std::string(suffix);
      const int64_t shape[] = {part.tensor_rows, desc.k};
      const TensorView view = weights_.source->get(tensor, shape, hint).value();
      const DType dtype = view.dtype.value();
      const int64_t offset = part.first_row * desc.k * static_cast<int64_t>(dtype_bytes(dtype));
      waiting.blocks.push_back({.data = view.data.data() + offset, .dtype = dtype, .n = part.rows});
      // Not before its last rows are packed too.
      if (part.first_row + part.rows == part.tensor_rows) waiting.names.push_back(tensor);
      if (has_bias) {
        const std::vector<float> bias = vector(name + ".bias", part.tensor_rows, hint);
        const auto first = bias.begin() + part.first_row;
        result.bias.insert(result.bias.end(), first, first + part.rows);
      }
    }
    used_ += bytes;
    waiting_.push_back(std::move(waiting));
    return result;
  }

  // Packs what waits, and gives the sources' memory back.
  void flush() {
    if (waiting_.empty()) return;
    touch_memory();
    std::vector<kernels::PackJob> jobs;
    for (const Waiting& waiting : waiting_)
      jobs.push_back({.desc = waiting.desc, .blocks = waiting.blocks, .out = waiting.out});
    kernels::pack_weights(context_, jobs);
    packed_ = used_;
    if (options_.on_progress)
      options_.on_progress(static_cast<int64_t>(used_), static_cast<int64_t>(total_));
    for (const Waiting& waiting : waiting_)
      for (const std::string& name : waiting.names) weights_.source->drop(name);
    waiting_.clear();
  }

 private:
  // Matrices of small models are too small for several threads each. Their sources are resident
  // together until they are packed.
  static constexpr size_t kBatchBytes = size_t{16} << 20;

  struct Waiting {
    PackedDesc desc;
    std::vector<kernels::WeightBlock> blocks;
    std::vector<std::string> names;
    std::byte* out = nullptr;
  };

  // Huge pages are cleared by whoever comes first; two threads that meet in one both clear it.
  void touch_memory() const {
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t first = packed_ / kHugePage, last = (used_ - 1) / kHugePage;
    context_.pool.parallel(static_cast<int64_t>(last - first + 1), [&](int64_t page, int) {
      weights_.memory.data()[std::max(packed_, (first + page) * kHugePage)] = std::byte{0};
    });
  }

  const kernels::CpuContext& context_;
  const CpuWeightsOptions& options_;
  CpuWeights& weights_;
  std::vector<Waiting> waiting_;
  size_t used_ = 0;    // of memory, what waits included
  size_t packed_ = 0;  // of memory
  size_t total_;
};

CpuLayerWeights load_layer(Loader& loader, const FamilyTraits& family, const ModelConfig& config,
                           const LayerDescs& descs, int64_t index) {
  const WeightNames& names = family.names;
  const std::string prefix = fmt::format("{}{}.", names.layers, index);
  const auto named = [&](std::string_view name) { return prefix + std::string(name); };
  const LayerParts parts = layer_parts(family, config);
  const bool qkv_bias = has_qkv_bias(family, config), mlp_bias = has_mlp_bias(family, config);
  const auto linear = [&](const PackedDesc& desc, std::initializer_list<WeightPart> list,
                          bool has_bias, std::string_view hint) {
    return loader.linear(desc, prefix, list, has_bias, hint);
  };
  const auto hidden_norm = [&](std::string_view name) {
    return loader.vector(named(name), config.hidden_size, kHeadHint);
  };

  CpuLayerWeights layer;
  layer.input_norm = hidden_norm(names.input_norm);
  if (descs.qkv.n != 0) {
    layer.qkv = linear(descs.qkv, {parts.q, parts.k, parts.v}, qkv_bias, kHeadHint);
  } else {
    layer.q = linear(descs.q, {parts.q}, qkv_bias, kHeadHint);
    layer.kv = linear(descs.kv, {parts.k, parts.v}, qkv_bias, kHeadHint);
  }
  if (family.has_qk_norm) {
    layer.q_norm = loader.vector(named(names.q_norm), config.head_dim, "is head_dim right?");
    layer.k_norm = loader.vector(named(names.k_norm), config.head_dim, "is head_dim right?");
  }
  layer.o = linear(descs.o, {parts.o}, has_o_bias(family, config), kHeadHint);
  layer.post_norm = hidden_norm(names.post_norm);
  layer.gate_up = linear(descs.gate_up, {parts.gate, parts.up}, mlp_bias, kMlpHint);
  layer.down = linear(descs.down, {parts.down}, mlp_bias, kMlpHint);
  if (has_output_norms(family)) {
    layer.o_norm = hidden_norm(names.o_norm);
    layer.down_norm = hidden_norm(names.down_norm);
  }
  if (!config.sliding_window.empty()) layer.window = config.sliding_window.at(index);
  return layer;
}

}  // namespace

int64_t cpu_weight_bytes(const ModelConfig& config, const CpuWeightsOptions& options) {
  return static_cast<int64_t>(describe(config, options).bytes);
}

int64_t parameter_count(const ModelConfig& config) {
  const FamilyTraits& family = find_family(config);
  const int64_t hidden = config.hidden_size, ff = config.intermediate_size;
  const int64_t q_size = config.num_q_heads * config.head_dim;
  const int64_t kv_size = config.num_kv_heads * config.head_dim;
  int64_t layer = 2 * hidden + 2 * hidden * q_size + 2 * hidden * kv_size + 3 * hidden * ff;
  if (has_qkv_bias(family, config)) layer += q_size + 2 * kv_size;
  if (has_o_bias(family, config)) layer += hidden;
  if (has_mlp_bias(family, config)) layer += 2 * ff + hidden;
  if (family.has_qk_norm) layer += 2 * config.head_dim;
  if (has_output_norms(family)) layer += 2 * hidden;
  const int64_t tables = config.tie_word_embeddings ? 1 : 2;
  return tables * config.vocab_size * hidden + config.num_layers * layer + hidden;
}

CpuWeights load_cpu_weights(const kernels::CpuContext& context, const ModelConfig& config,
                            std::shared_ptr<WeightSource> source,
                            const CpuWeightsOptions& options) {
  const FamilyTraits& family = find_family(config);
  const ModelDescs descs = describe(config, options);
  CpuWeights weights;
  weights.config = config;
  weights.dtype = options.dtype;
  weights.isa = options.isa;
  weights.parameters = parameter_count(config);
  weights.source = std::move(source);
  weights.memory = Memory(descs.bytes);
  Loader loader(context, options, weights, descs.bytes);

  for (int64_t i = 0; i < config.num_layers; ++i)
    weights.layers.push_back(load_layer(loader, family, config, descs.layers[i], i));
  weights.final_norm =
      loader.vector(std::string(family.names.final_norm), config.hidden_size, kVocabHint);
  const WeightPart head{
      .name = config.tie_word_embeddings ? family.names.embedding : family.names.head,
      .rows = config.vocab_size,
      .tensor_rows = config.vocab_size};
  weights.head = loader.linear(descs.head, "", std::array{head}, false, kVocabHint, "");
  loader.flush();
  // Last, so that packing a tied head does not drop its pages again.
  const int64_t shape[] = {config.vocab_size, config.hidden_size};
  weights.embedding =
      weights.source->get(std::string(family.names.embedding), shape, kVocabHint).value();
  return weights;
}

}  // namespace kvasir::models
