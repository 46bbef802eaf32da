#include "train/parameters.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "models/family.h"

namespace kvasir::train {
namespace {

constexpr int64_t kAlignment = 64;  // elements between groups: whole vectors in every dtype

at::ScalarType scalar_type(DType dtype) {
  return dtype == DType::kF32 ? at::kFloat : dtype == DType::kBF16 ? at::kBFloat16 : at::kHalf;
}

// The parameters of a model in their order, in groups that lie without gaps.
class Layout {
 public:
  explicit Layout(const formats::ModelConfig& config)
      : config_(config), family_(models::find_family(config)) {}

  std::vector<std::vector<ParameterSpec>> groups() {
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) add_matrices(layer);
    const auto table = [&](std::string_view name) {
      ParameterSpec spec = whole(std::string(name), config_.vocab_size, config_.hidden_size);
      spec.kind = ParameterKind::kEmbedding;
      groups_.push_back({spec});
    };
    table(family_.names.embedding);
    if (!config_.tie_word_embeddings) table(family_.names.head);
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) add_vectors(layer);
    groups_.push_back({whole(std::string(family_.names.final_norm), config_.hidden_size, 0)});
    return std::move(groups_);
  }

 private:
  static ParameterSpec whole(std::string tensor, int64_t rows, int64_t columns) {
    return {.tensor = std::move(tensor),
            .kind = columns ? ParameterKind::kMatrix : ParameterKind::kVector,
            .rows = rows,
            .columns = columns,
            .tensor_rows = rows};
  }
  std::string prefix(int64_t layer) const {
    return std::string(family_.names.layers) + std::to_string(layer) + ".";
  }
  void add_linear(int64_t layer, std::initializer_list<models::WeightPart> parts, int64_t columns,
                  const char* suffix, double init_scale = 1) {
    std::vector<ParameterSpec> group;
    for (const models::WeightPart& part : parts) {
      ParameterSpec spec =
          whole(prefix(layer) + std::string(part.name) + suffix, part.rows, columns);
      spec.first_row = part.first_row;
      spec.tensor_rows = part.tensor_rows;
      spec.init_scale = init_scale;
      group.push_back(spec);
    }
    groups_.push_back(std::move(group));
  }
  void add_matrices(int64_t layer) {
    const models::LayerParts parts = models::layer_parts(family_, config_);
    const int64_t hidden = config_.hidden_size;
    const double residual = 1 / std::sqrt(2.0 * static_cast<double>(config_.num_layers));
    add_linear(layer, {parts.q, parts.k, parts.v}, hidden, ".weight");
    add_linear(layer, {parts.o}, config_.num_q_heads * config_.head_dim, ".weight", residual);
    add_linear(layer, {parts.gate, parts.up}, hidden, ".weight");
    add_linear(layer, {parts.down}, config_.intermediate_size, ".weight", residual);
  }
  void add_vectors(int64_t layer) {
    const models::LayerParts parts = models::layer_parts(family_, config_);
    const models::WeightNames& names = family_.names;
    const auto norm = [&](std::string_view name, int64_t size) {
      groups_.push_back({whole(prefix(layer) + std::string(name), size, 0)});
    };
    norm(names.input_norm, config_.hidden_size);
    if (models::has_qkv_bias(family_, config_))
      add_linear(layer, {parts.q, parts.k, parts.v}, 0, ".bias", 0);
    if (family_.has_qk_norm) {
      norm(names.q_norm, config_.head_dim);
      norm(names.k_norm, config_.head_dim);
    }
    if (models::has_o_bias(family_, config_)) add_linear(layer, {parts.o}, 0, ".bias", 0);
    if (models::has_output_norms(family_)) norm(names.o_norm, config_.hidden_size);
    norm(names.post_norm, config_.hidden_size);
    if (models::has_mlp_bias(family_, config_)) {
      add_linear(layer, {parts.gate, parts.up}, 0, ".bias", 0);
      add_linear(layer, {parts.down}, 0, ".bias", 0);
    }
    if (models::has_output_norms(family_)) norm(names.down_norm, config_.hidden_size);
  }

  const formats::ModelConfig& config_;
  const models::FamilyTraits& family_;
  std::vector<std::vector<ParameterSpec>> groups_;
};

}  // namespace

at::Tensor Parameters::Range::of(const at::Tensor& flat) const {
  return flat.slice(0, first, last);
}

at::Tensor Parameters::view(const at::Tensor& flat, const ParameterSpec& spec) {
  const at::Tensor part = flat.slice(0, spec.offset, spec.offset + spec.size());
  return spec.columns ? part.view({spec.rows, spec.columns}) : part;
}

Parameters::Parameters(const formats::ModelConfig& config, at::Device device,
                       at::ScalarType compute) {
  weights_.config = config;
  lay_out();
  const int64_t size = specs_.back().offset + specs_.back().size();
  const auto options = at::TensorOptions().device(device).dtype(at::kFloat);
  masters_ = at::zeros({size}, options);
  gradients_ = at::zeros({size + kExtraSums}, options);
  compute_ = compute == at::kFloat ? masters_ : at::zeros({size}, options.dtype(compute));
  make_views();
}

void Parameters::lay_out() {
  int64_t offset = 0;
  for (std::vector<ParameterSpec>& group : Layout(weights_.config).groups()) {
    offset = (offset + kAlignment - 1) / kAlignment * kAlignment;
    for (ParameterSpec& spec : group) {
      spec.offset = offset;
      offset += spec.size();
      specs_.push_back(std::move(spec));
    }
  }
  for (const ParameterSpec& spec : specs_) {
    Range& range = ranges_[static_cast<size_t>(spec.kind)];
    if (range.last == 0) range.first = spec.offset;
    range.last = spec.offset + spec.size();
  }
}

void Parameters::make_views() {
  const formats::ModelConfig& config = weights_.config;
  const models::FamilyTraits& family = models::find_family(config);
  size_t next = 0;
  // The next `parts` parameters as one; norms are applied in f32, from the masters.
  const auto take = [&](size_t parts, bool is_norm = false) {
    const ParameterSpec& first = specs_[next];
    ParameterSpec all = first;
    for (size_t i = 1; i < parts; ++i) all.rows += specs_[next + i].rows;
    next += parts;
    return Parameter{view(is_norm ? masters_ : compute_, all), view(gradients_, all)};
  };
  weights_.layers.resize(static_cast<size_t>(config.num_layers));
  for (AutogradLayer& layer : weights_.layers) {
    layer.qkv.weight = take(3);
    layer.o.weight = take(1);
    layer.gate_up.weight = take(2);
    layer.down.weight = take(1);
  }
  weights_.embedding = take(1);
  weights_.head = config.tie_word_embeddings ? weights_.embedding : take(1);
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    AutogradLayer& layer = weights_.layers[i];
    layer.input_norm = take(1, true);
    if (models::has_qkv_bias(family, config)) layer.qkv.bias = take(3);
    if (family.has_qk_norm) {
      layer.q_norm = take(1, true);
      layer.k_norm = take(1, true);
    }
    if (models::has_o_bias(family, config)) layer.o.bias = take(1);
    if (models::has_output_norms(family)) layer.o_norm = take(1, true);
    layer.post_norm = take(1, true);
    if (models::has_mlp_bias(family, config)) {
      layer.gate_up.bias = take(2);
      layer.down.bias = take(1);
    }
    if (models::has_output_norms(family)) layer.down_norm = take(1, true);
    if (!config.sliding_window.empty()) layer.window = config.sliding_window[i];
  }
  weights_.final_norm = take(1, true);
  KVASIR_CHECK(next == specs_.size());
}

at::Tensor Parameters::extra_sums() const { return gradients_.slice(0, masters_.size(0)); }

int64_t Parameters::count() const {
  int64_t count = 0;
  for (const ParameterSpec& spec : specs_) count += spec.size();
  return count;
}

void Parameters::load(models::WeightSource& source) {
  for (const ParameterSpec& spec : specs_) {
    std::vector<int64_t> shape{spec.tensor_rows};
    if (spec.columns) shape.push_back(spec.columns);
    const formats::TensorView tensor = source.get(spec.tensor, shape, "").value();
    const size_t row_bytes = tensor.data.size() / static_cast<size_t>(spec.tensor_rows);
    at::Tensor stored = at::empty({spec.size()}, scalar_type(*tensor.dtype));
    std::memcpy(stored.data_ptr(), tensor.data.data() + spec.first_row * row_bytes,
                spec.rows * row_bytes);
    source.drop(spec.tensor);
    masters_.slice(0, spec.offset, spec.offset + spec.size()).copy_(stored);
  }
  refresh();
}

void Parameters::initialise(uint64_t seed, double deviation) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  for (const ParameterSpec& spec : specs_) {
    at::Tensor part = masters_.slice(0, spec.offset, spec.offset + spec.size());
    if (spec.columns) {
      const at::Tensor values = at::empty({spec.size()}, at::kFloat);
      part.copy_(values.normal_(0, deviation * spec.init_scale, generator));
    } else {
      part.fill_(spec.init_scale);  // norms 1, biases 0
    }
  }
  refresh();
}

void Parameters::refresh() {
  if (!compute_.is_same(masters_)) compute_.copy_(masters_);
}

}  // namespace kvasir::train
