#include "formats/model_config.h"

#include "base/file.h"
#include "formats/config_reader.h"
#include "formats/json_text.h"

namespace kvasir::formats {
namespace {

using nlohmann::json;

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of any extent: products stay below 2^63
constexpr int64_t kMaxPositions = int64_t{1} << 40;

RopeScaling scaling_kind(const ConfigReader& rope, const std::string& name) {
  if (name == "default") return RopeScaling::kNone;
  if (name == "linear") return RopeScaling::kLinear;
  if (name == "dynamic") return RopeScaling::kDynamic;
  if (name == "llama3") return RopeScaling::kLlama3;
  if (name == "yarn") return RopeScaling::kYarn;
  if (name == "longrope") return RopeScaling::kLongRope;
  throw Error(ErrorCode::kUnsupported,
              "expected rotary scaling default, linear, dynamic, llama3, yarn or longrope, "
              "found \"" +
                  name + "\"",
              rope.origin());
}

// What transformers' configuration class of a family assumes where config.json is silent.
struct FamilyDefaults {
  double rms_norm_eps = 1e-6;
  int64_t max_positions = 2048;
  std::optional<int64_t> head_dim;
  std::optional<int64_t> num_kv_heads;  // null in the file: as many as query heads
  std::optional<int64_t> window;        // null in the file: none
  std::optional<int64_t> original_positions;
  double partial_rotary_factor = 1;
  bool attention_bias = false;
  // Every layer slides where there is a window, whatever layer_types says.
  bool all_layers_slide = false;
};

FamilyDefaults defaults_of(const std::string& model_type) {
  if (model_type == "qwen2") return {.max_positions = 32768};
  if (model_type == "qwen3") return {.max_positions = 32768, .head_dim = 128};
  if (model_type == "mistral")
    return {.max_positions = 131072, .num_kv_heads = 8, .window = 4096, .all_layers_slide = true};
  if (model_type == "phi3")
    return {.rms_norm_eps = 1e-5,
            .max_positions = 4096,
            .original_positions = 4096,
            .all_layers_slide = true};
  if (model_type == "glm" || model_type == "glm4")
    return {.rms_norm_eps = 1.5625e-7,
            .max_positions = 131072,
            .head_dim = 128,
            .num_kv_heads = 2,
            .partial_rotary_factor = 0.5,
            .attention_bias = true};
  return {};
}

// transformers 4: `rope_theta` beside `rope_scaling`; transformers 5: all in `rope_parameters`.
RopeConfig read_rope(const ConfigReader& config, const FamilyDefaults& defaults,
                     int64_t max_positions, int64_t head_dim) {
  RopeConfig rope;
  rope.theta = config.number("rope_theta", 1e-3, 1e15, 10000);
  rope.partial_rotary_factor =
      config.number("partial_rotary_factor", 1e-3, 1, defaults.partial_rotary_factor);
  rope.original_max_positions = config.integer("original_max_position_embeddings", 1, kMaxPositions,
                                               defaults.original_positions.value_or(max_positions));
  const char* key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.has(key)) return rope;
  const json& object = config.at(key);
  if (!object.is_object()) config.fail(key, "an object", object.dump());
  for (const auto& [name, value] : object.items())
    if (value.is_object())
      throw Error(ErrorCode::kUnsupported,
                  std::string(key) + ": parameters per layer type (\"" + name +
                      "\") are not supported; expected one set for all layers",
                  config.origin());

  const ConfigReader reader(object, config.origin() + ": " + key);
  std::string kind =
      reader.has("rope_type") ? reader.text("rope_type", "") : reader.text("type", "default");
  // Phi-3's first files name LongRoPE otherwise.
  if (config.text("model_type", "") == "phi3" && (kind == "su" || kind == "yarn"))
    kind = "longrope";
  rope.scaling = scaling_kind(reader, kind);
  rope.theta = reader.number("rope_theta", 1e-3, 1e15, rope.theta);
  rope.partial_rotary_factor =
      reader.number("partial_rotary_factor", 1e-3, 1, rope.partial_rotary_factor);
  if (rope.scaling == RopeScaling::kNone) return rope;
  if (!config.has("original_max_position_embeddings") && !defaults.original_positions)
    rope.original_max_positions = reader.integer("original_max_position_embeddings", 1,
                                                 kMaxPositions, rope.original_max_positions);
  // These may leave the factor to the ratio of the two lengths.
  const bool has_ratio =
      rope.scaling == RopeScaling::kYarn || rope.scaling == RopeScaling::kLongRope;
  if (has_ratio && !reader.has("factor"))
    rope.factor =
        static_cast<double>(max_positions) / static_cast<double>(rope.original_max_positions);
  else
    rope.factor = reader.number("factor", 1e-3, 1e6, std::nullopt);
  if (rope.scaling == RopeScaling::kLlama3) {
    rope.low_freq_factor = reader.number("low_freq_factor", 1e-6, 1e6, std::nullopt);
    rope.high_freq_factor = reader.number("high_freq_factor", 1e-6, 1e6, std::nullopt);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      reader.fail("high_freq_factor", "a number above low_freq_factor",
                  fmt::format("{:g}", rope.high_freq_factor));
  }
  if (has_ratio) rope.attention_factor = reader.optional_number("attention_factor", 1e-6, 1e6);
  if (rope.scaling == RopeScaling::kLongRope) {
    const int64_t pairs = rotary_dim(rope, head_dim) / 2;
    rope.short_factor = reader.numbers("short_factor", pairs, 1e-6, 1e6);
    rope.long_factor = reader.numbers("long_factor", pairs, 1e-6, 1e6);
  }
  if (rope.scaling == RopeScaling::kYarn) {
    rope.beta_fast = reader.number("beta_fast", 0, 1e6, 32);
    rope.beta_slow = reader.number("beta_slow", 0, 1e6, 1);
    if (rope.beta_fast == 0) rope.beta_fast = 32;
    if (rope.beta_slow == 0) rope.beta_slow = 1;
    rope.mscale = reader.optional_number("mscale", 0, 1e6);
    rope.mscale_all_dim = reader.optional_number("mscale_all_dim", 0, 1e6);
    rope.truncate = reader.boolean("truncate", true);
  }
  return rope;
}

// The rule of Qwen2 and Qwen3: layers from max_window_layers on slide where use_sliding_window is
// set; an explicit layer_types list wins. That of Mistral and Phi-3: all layers slide. Others have
// no windows.
std::vector<int64_t> read_windows(const ConfigReader& config, const FamilyDefaults& defaults,
                                  int64_t layers) {
  if (config.is_null("sliding_window")) return {};
  if (!config.has("sliding_window") && !defaults.window) return {};
  const int64_t window = config.integer("sliding_window", 1, kMaxPositions, defaults.window);
  if (defaults.all_layers_slide) return std::vector<int64_t>(layers, window);
  const bool is_qwen = config.text("model_type", "").starts_with("qwen");
  if (is_qwen && !config.boolean("use_sliding_window", false)) return {};
  std::vector<int64_t> windows(layers, window);
  if (config.has("layer_types")) {
    const json& types = config.at("layer_types");
    if (!types.is_array() || static_cast<int64_t>(types.size()) != layers)
      config.fail("layer_types", fmt::format("a list of {} names", layers), types.dump());
    for (int64_t i = 0; i < layers; ++i) {
      if (types[i] == "full_attention")
        windows[i] = 0;
      else if (types[i] != "sliding_attention")
        config.fail("layer_types", "full_attention or sliding_attention", types[i].dump());
    }
  } else if (is_qwen) {
    const int64_t first = config.integer("max_window_layers", 0, 1 << 20, 28);
    for (int64_t i = 0; i < std::min(first, layers); ++i) windows[i] = 0;
  } else {
    return {};  // Llama ignores the key
  }
  return windows;
}

ModelConfig read_config(const json& object, const std::string& origin) {
  const ConfigReader reader(object, origin);
  ModelConfig config;
  if (reader.has("architectures")) {
    const json& list = reader.at("architectures");
    if (!list.is_array() || list.empty() || !list[0].is_string())
      reader.fail("architectures", "a list of names", list.dump());
    config.architecture = list[0].get<std::string>();
  }
  config.model_type = reader.text("model_type", "");
  const FamilyDefaults defaults = defaults_of(config.model_type);
  config.hidden_size = reader.integer("hidden_size", 1, kMaxSize, std::nullopt);
  config.intermediate_size = reader.integer("intermediate_size", 1, kMaxSize, std::nullopt);
  config.num_layers = reader.integer("num_hidden_layers", 1, 4096, std::nullopt);
  config.num_q_heads = reader.integer("num_attention_heads", 1, 65536, std::nullopt);
  const bool is_multi_head = reader.is_null("num_key_value_heads") || !defaults.num_kv_heads;
  config.num_kv_heads = reader.integer("num_key_value_heads", 1, 65536,
                                       is_multi_head ? config.num_q_heads : *defaults.num_kv_heads);
  if (config.num_q_heads % config.num_kv_heads != 0)
    reader.fail("num_key_value_heads", fmt::format("a divisor of {}", config.num_q_heads),
                std::to_string(config.num_kv_heads));
  if (!reader.has("head_dim") && !defaults.head_dim && config.hidden_size % config.num_q_heads != 0)
    reader.fail("hidden_size",
                fmt::format("a multiple of num_attention_heads ({})", config.num_q_heads),
                std::to_string(config.hidden_size));
  config.head_dim = reader.integer(
      "head_dim", 2, 4096, defaults.head_dim.value_or(config.hidden_size / config.num_q_heads));
  if (config.head_dim % 2 != 0)
    reader.fail("head_dim", "an even number", std::to_string(config.head_dim));
  config.vocab_size = reader.integer("vocab_size", 1, kMaxSize, std::nullopt);
  config.max_positions =
      reader.integer("max_position_embeddings", 1, kMaxPositions, defaults.max_positions);
  config.rms_norm_eps = reader.number("rms_norm_eps", 0, 1, defaults.rms_norm_eps);
  config.tie_word_embeddings = reader.boolean("tie_word_embeddings", false);
  config.attention_bias = reader.boolean("attention_bias", defaults.attention_bias);
  config.mlp_bias = reader.boolean("mlp_bias", false);
  config.hidden_act = reader.text("hidden_act", "silu");
  config.sliding_window = read_windows(reader, defaults, config.num_layers);
  config.rope = read_rope(reader, defaults, config.max_positions, config.head_dim);
  if (rotary_dim(config.rope, config.head_dim) % 2 != 0)
    reader.fail("partial_rotary_factor", "an even number of elements that rotate",
                std::to_string(rotary_dim(config.rope, config.head_dim)));
  config.bos_token = reader.token("bos_token_id");
  config.pad_token = reader.token("pad_token_id");
  config.eos_tokens = reader.tokens("eos_token_id");
  config.dtype_text =
      reader.has("dtype") ? reader.text("dtype", "") : reader.text("torch_dtype", "");
  return config;
}

GenerationConfig read_generation(const json& object, const std::string& origin) {
  const ConfigReader reader(object, origin);
  GenerationConfig config;
  config.eos_tokens = reader.tokens("eos_token_id");
  config.bos_token = reader.token("bos_token_id");
  config.pad_token = reader.token("pad_token_id");
  config.do_sample = reader.boolean("do_sample", false);
  config.temperature = reader.optional_number("temperature", 0, 1e6);
  config.top_p = reader.optional_number("top_p", 0, 1);
  config.min_p = reader.optional_number("min_p", 0, 1);
  config.repetition_penalty = reader.optional_number("repetition_penalty", 1e-6, 1e6);
  if (reader.has("top_k")) config.top_k = reader.integer("top_k", 0, kMaxSize, std::nullopt);
  return config;
}

template <class Config>
Result<Config> parse(std::string_view text, std::string_view origin,
                     Config (*read)(const json&, const std::string&)) {
  return read_json<Config>(
      text, origin, "a JSON object", [read](const json& object, const std::string& place) {
        if (!object.is_object())
          throw Error(ErrorCode::kMalformed,
                      std::string("expected a JSON object, found ") + object.type_name(), place);
        return read(object, place);
      });
}

}  // namespace

int64_t rotary_dim(const RopeConfig& rope, int64_t head_dim) {
  return static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial_rotary_factor);
}

Result<ModelConfig> parse_model_config(std::string_view text, std::string_view origin) {
  return parse<ModelConfig>(text, origin, read_config);
}

Result<GenerationConfig> parse_generation_config(std::string_view text, std::string_view origin) {
  return parse<GenerationConfig>(text, origin, read_generation);
}

Result<ModelConfig> load_model_config(const std::filesystem::path& folder) {
  std::error_code unknown;  // reading says what is wrong
  if (!std::filesystem::is_directory(folder, unknown))
    return Error(ErrorCode::kNotFound, "expected a model folder, found none", folder.string());
  const auto path = folder / "config.json";
  auto text = read_file(path);
  if (!text) return text.error();
  return parse_model_config(text.value(), path.string());
}

Result<GenerationConfig> load_generation_config(const std::filesystem::path& folder) {
  const auto path = folder / "generation_config.json";
  auto text = read_file(path);
  if (!text && text.error().code() == ErrorCode::kNotFound) return GenerationConfig{};
  if (!text) return text.error();
  return parse_generation_config(text.value(), path.string());
}

}  // namespace kvasir::formats
