#pragma once
// Model families as a table of traits and weight names. Whatever distinguishes one family from
// another is a named trait here; the forward knows no family by name.

#include <span>
#include <string>
#include <string_view>

#include "formats/model_config.h"

namespace kvasir::models {

enum class BiasRule : uint8_t {
  kNever,
  kAlways,
  kByConfig,  // config.attention_bias or config.mlp_bias
};

// Names of the weights, a layer's below "model.layers.<i>.". Empty: the family has none.
struct WeightNames {
  std::string_view embedding = "model.embed_tokens.weight";
  std::string_view final_norm = "model.norm.weight";
  std::string_view head = "lm_head.weight";
  std::string_view layers = "model.layers.";
  std::string_view input_norm = "input_layernorm.weight";
  std::string_view q = "self_attn.q_proj";
  std::string_view k = "self_attn.k_proj";
  std::string_view v = "self_attn.v_proj";
  std::string_view qkv;  // q, k and v stacked in one tensor, which then replaces theirs
  std::string_view o = "self_attn.o_proj";
  std::string_view q_norm = "self_attn.q_norm.weight";
  std::string_view k_norm = "self_attn.k_norm.weight";
  std::string_view post_norm = "post_attention_layernorm.weight";
  std::string_view gate = "mlp.gate_proj";
  std::string_view up = "mlp.up_proj";
  std::string_view gate_up;  // gate and up stacked in one tensor, which then replaces theirs
  std::string_view down = "mlp.down_proj";
  // RMS norms of what attention and the feed-forward put out, before it joins the residual.
  std::string_view o_norm;
  std::string_view down_norm;
};

struct FamilyTraits {
  std::string_view architecture;  // config.json: architectures[0]
  std::string_view model_type;    // config.json: model_type
  BiasRule qkv_bias = BiasRule::kNever;
  BiasRule o_bias = BiasRule::kNever;
  BiasRule mlp_bias = BiasRule::kNever;
  bool has_qk_norm = false;  // RMS norm of each query and key head before rotation
  // Rotation pairs elements 2i and 2i + 1 of a head instead of i and i + rotary_dim / 2.
  bool has_interleaved_rotary = false;
  WeightNames names;
};

std::span<const FamilyTraits> families();

// The row for a configuration, by architecture and, where that is missing, by model_type. Throws
// kUnsupported, naming what was found and the known ones; also for activations other than SiLU.
const FamilyTraits& find_family(const formats::ModelConfig& config);

bool has_qkv_bias(const FamilyTraits& family, const formats::ModelConfig& config);
bool has_o_bias(const FamilyTraits& family, const formats::ModelConfig& config);
bool has_mlp_bias(const FamilyTraits& family, const formats::ModelConfig& config);

// Where a linear lies on disk: rows first_row and following of the tensor `name`, which has
// tensor_rows rows (more than `rows` where linears are stacked).
struct WeightPart {
  std::string_view name;  // below the layer; ".weight" or ".bias" follows
  int64_t rows = 0;
  int64_t first_row = 0;
  int64_t tensor_rows = 0;
};
struct LayerParts {
  WeightPart q, k, v, o, gate, up, down;
};
LayerParts layer_parts(const FamilyTraits& family, const formats::ModelConfig& config);

// Both or neither of o_norm and down_norm.
bool has_output_norms(const FamilyTraits& family);

}  // namespace kvasir::models
