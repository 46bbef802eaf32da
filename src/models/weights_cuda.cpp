#include "models/weights_cuda.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "base/check.h"
#include "models/cpu_weights.h"
#include "models/upload_cuda.h"

namespace kvasir::models {
namespace {

using formats::ModelConfig;
using formats::TensorView;

// Places tensors one after the other in one piece of memory. Without an uploader it only counts.
class Builder {
 public:
  Builder(const ModelConfig& config, DType dtype, WeightSource* source, Uploader* uploader,
          std::byte* base)
      : config_(config),
        family_(find_family(config)),
        dtype_(dtype),
        source_(source),
        uploader_(uploader),
        base_(base) {}

  void build(CudaWeights& weights) {
    const std::array embedding{WeightPart{.name = family_.names.embedding,
                                          .rows = config_.vocab_size,
                                          .first_row = 0,
                                          .tensor_rows = config_.vocab_size}};
    weights.head = linear("", embedding, config_.hidden_size, false, kVocabHint, "");
    weights.embedding = weights.head.weight;
    for (int64_t i = 0; i < config_.num_layers; ++i) weights.layers.push_back(layer(i));
    weights.final_norm =
        vector(std::string(family_.names.final_norm), config_.hidden_size, kVocabHint);
    if (config_.tie_word_embeddings) return;
    const std::array head{WeightPart{.name = family_.names.head,
                                     .rows = config_.vocab_size,
                                     .first_row = 0,
                                     .tensor_rows = config_.vocab_size}};
    weights.head = linear("", head, config_.hidden_size, false, kVocabHint, "");
  }

  int64_t bytes() const { return used_; }

 private:
  CudaLayerWeights layer(int64_t index) {
    const WeightNames& names = family_.names;
    const std::string prefix = fmt::format("{}{}.", names.layers, index);
    const LayerParts parts = layer_parts(family_, config_);
    const int64_t hidden = config_.hidden_size, inner = config_.intermediate_size;
    const int64_t q_size = config_.num_q_heads * config_.head_dim;
    const bool mlp_bias = has_mlp_bias(family_, config_);
    const auto norm = [&](std::string_view name, int64_t size) {
      return vector(prefix + std::string(name), size, kHeadHint);
    };
    CudaLayerWeights result;
    result.input_norm = norm(names.input_norm, hidden);
    result.qkv = linear(prefix, std::array{parts.q, parts.k, parts.v}, hidden,
                        has_qkv_bias(family_, config_), kHeadHint);
    if (family_.has_qk_norm) {
      result.q_norm = norm(names.q_norm, config_.head_dim);
      result.k_norm = norm(names.k_norm, config_.head_dim);
    }
    result.o = linear(prefix, std::array{parts.o}, q_size, has_o_bias(family_, config_), kHeadHint);
    result.post_norm = norm(names.post_norm, hidden);
    result.gate_up = linear(prefix, std::array{parts.gate, parts.up}, hidden, mlp_bias, kMlpHint);
    result.down = linear(prefix, std::array{parts.down}, inner, mlp_bias, kMlpHint);
    if (has_output_norms(family_)) {
      result.o_norm = norm(names.o_norm, hidden);
      result.down_norm = norm(names.down_norm, hidden);
    }
    if (!config_.sliding_window.empty()) result.window = config_.sliding_window.at(index);
    return result;
  }

  // The parts, stacked along n.
  DeviceLinear linear(const std::string& prefix, std::span<const WeightPart> parts, int64_t k,
                      bool has_bias, std::string_view hint, std::string_view suffix = ".weight") {
    DeviceLinear result{.weight = base_ + used_, .n = 0, .k = k};
    for (const WeightPart& part : parts) {
      const std::string name = prefix + std::string(part.name) + std::string(suffix);
      upload(name, std::array{part.tensor_rows, k}, part.first_row * k, part.rows * k, dtype_,
             hint);
      result.n += part.rows;
    }
    align();
    if (!has_bias) return result;
    result.bias = reinterpret_cast<const float*>(base_ + used_);
    bias(prefix, parts, DType::kF32, hint);
    result.narrow_bias = base_ + used_;
    bias(prefix, parts, dtype_, hint);
    return result;
  }

  void bias(const std::string& prefix, std::span<const WeightPart> parts, DType dtype,
            std::string_view hint) {
    for (const WeightPart& part : parts)
      upload(prefix + std::string(part.name) + ".bias", std::array{part.tensor_rows},
             part.first_row, part.rows, dtype, hint);
    align();
  }

  const float* vector(const std::string& name, int64_t size, std::string_view hint) {
    const auto* place = reinterpret_cast<const float*>(base_ + used_);
    upload(name, std::array{size}, 0, size, DType::kF32, hint);
    align();
    return place;
  }

  void upload(const std::string& name, std::span<const int64_t> shape, int64_t first, int64_t count,
              DType dtype, std::string_view hint) {
    if (uploader_) {
      const TensorView view = source_->get(name, shape, hint).value();
      const DType from = view.dtype.value();
      uploader_->add({.source = view.data.data() + first * static_cast<int64_t>(dtype_bytes(from)),
                      .from = from,
                      .target = base_ + used_,
                      .to = dtype,
                      .elements = count,
                      .name = name});
    }
    used_ += count * static_cast<int64_t>(dtype_bytes(dtype));
  }

  void align() { used_ = (used_ + 255) / 256 * 256; }

  const ModelConfig& config_;
  const FamilyTraits& family_;
  DType dtype_;
  WeightSource* source_;
  Uploader* uploader_;
  std::byte* base_;
  int64_t used_ = 0;
};

}  // namespace

int64_t cuda_weight_bytes(const ModelConfig& config) {
  CudaWeights unused;
  Builder builder(config, DType::kBF16, nullptr, nullptr, nullptr);
  builder.build(unused);
  return builder.bytes();
}

CudaWeights load_cuda_weights(ThreadPool& pool, const ModelConfig& config, WeightSource& source,
                              const CudaWeightsOptions& options) {
  CudaWeights weights;
  weights.config = config;
  weights.dtype = options.dtype;
  weights.parameters = parameter_count(config);
  const int64_t bytes = cuda_weight_bytes(config);
  weights.memory = cuda::DeviceMemory(static_cast<size_t>(bytes));
  Uploader uploader(pool, [&](std::string_view name) { source.drop(name); });
  if (options.on_progress)
    uploader.on_progress([&](int64_t done) { options.on_progress(done, bytes); });
  Builder builder(config, options.dtype, &source, &uploader, weights.memory.data());
  builder.build(weights);
  uploader.finish();
  return weights;
}

}  // namespace kvasir::models
