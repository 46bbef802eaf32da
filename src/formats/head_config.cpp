#include "formats/head_config.h"

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "formats/config_reader.h"
#include "formats/json_text.h"

namespace kvasir::formats {
namespace {

using nlohmann::json;

constexpr int64_t kMaxPositions = int64_t{1} << 40;
constexpr char kDualChunk[] = "dual_chunk_attention_config";
constexpr char kHeads[] = "sparse_attention_config";

struct KindName {
  std::string_view name;
  HeadPatternKind kind;
};
constexpr KindName kKinds[] = {
    {"vertical_and_slash", HeadPatternKind::kVerticalSlash},
    {"stream_llm", HeadPatternKind::kAShape},
    {"block_sparse", HeadPatternKind::kBlockSparse},
};

[[noreturn]] void fail(const std::string& origin, const std::string& where, std::string_view wanted,
                       const json& found) {
  std::string text = found.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 80) text = text.substr(0, 77) + "...";
  throw Error(ErrorCode::kMalformed, fmt::format("{}: expected {}, found {}", where, wanted, text),
              origin);
}

int32_t budget(const json& value, const std::string& origin, const std::string& where) {
  constexpr std::string_view kWanted = "a whole number below 2^31";
  if (!value.is_number_integer()) fail(origin, where, kWanted, value);
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX)
    fail(origin, where, kWanted, value);
  return static_cast<int32_t>(std::max<int64_t>(0, value.get<int64_t>()));
}

HeadPattern read_pattern(const json& entry, const std::string& origin, const std::string& where) {
  if (!entry.is_array() || entry.size() != 4)
    fail(origin, where, "[pattern, number, number, score]", entry);
  constexpr std::string_view kWanted = "\"vertical_and_slash\", \"stream_llm\" or \"block_sparse\"";
  if (!entry[0].is_string()) fail(origin, where, kWanted, entry[0]);
  const auto& name = entry[0].get_ref<const std::string&>();
  const auto* known = std::ranges::find(kKinds, std::string_view(name), &KindName::name);
  if (known == std::end(kKinds)) fail(origin, where, kWanted, entry[0]);
  HeadPattern pattern{.kind = known->kind,
                      .first = budget(entry[1], origin, where + ", first number"),
                      .second = budget(entry[2], origin, where + ", second number"),
                      .score = {}};
  const json& score = entry[3];
  if (!score.is_number()) fail(origin, where + ", score", "a number", score);
  const bool is_whole = score.is_number_integer() &&
                        (!score.is_number_unsigned() || score.get<uint64_t>() <= INT64_MAX);
  if (is_whole)
    pattern.score = score.get<int64_t>();
  else
    pattern.score = score.get<double>();
  return pattern;
}

int32_t read_head(const std::string& key, int32_t q_heads, const std::string& origin,
                  const std::string& where) {
  int32_t head = -1;
  const char* end = key.data() + key.size();
  const auto [stop, failure] = std::from_chars(key.data(), end, head);
  const bool is_plain = failure == std::errc() && stop == end && key == std::to_string(head);
  if (!is_plain || head < 0 || head >= q_heads)
    fail(origin, where, fmt::format("query heads \"0\" to \"{}\" as keys", q_heads - 1), key);
  return head;
}

HeadConfig read_heads(const json& list, const std::string& origin, const HeadCounts& counts) {
  if (!list.is_array() || list.size() > static_cast<size_t>(counts.layers))
    throw Error(ErrorCode::kMalformed,
                fmt::format("expected a list of at most {} layers, found {}", counts.layers,
                            list.is_array() ? fmt::format("{} of them", list.size())
                                            : std::string(list.type_name())),
                origin);
  HeadConfig config;
  for (const json& object : list) {
    const std::string layer = fmt::format("layer {}", config.layers.size());
    if (!object.is_object()) fail(origin, layer, "an object of heads", object);
    auto& heads = config.layers.emplace_back();
    for (const auto& [key, entry] : object.items()) {
      const int32_t head = read_head(key, counts.q_heads, origin, layer);
      heads[head] = read_pattern(entry, origin, fmt::format("{}, head {}", layer, head));
    }
  }
  return config;
}

DualChunkAttention read_dual_chunk(const json& object, const std::string& origin,
                                   const HeadCounts& counts) {
  const ConfigReader reader(object, origin);
  DualChunkAttention dual;
  dual.chunk_size = reader.integer("chunk_size", 1, kMaxPositions, dual.chunk_size);
  dual.local_size = reader.integer("local_size", 0, dual.chunk_size - 1,
                                   std::min(dual.local_size, dual.chunk_size - 1));
  dual.original_max_positions =
      reader.integer("original_max_position_embeddings", 0, kMaxPositions, 0);
  if (reader.has(kHeads))
    dual.heads = read_heads(reader.at(kHeads), origin + ": " + kHeads, counts);
  dual.has_sparse_attention = reader.boolean("sparse_attention_enabled", dual.heads.has_value());
  dual.sparse_threshold =
      reader.integer("sparse_attention_threshold", 0, kMaxPositions, dual.sparse_threshold);
  dual.sparse_last_queries =
      reader.integer("sparse_attention_last_q", 1, kMaxPositions, dual.sparse_last_queries);
  return dual;
}

}  // namespace

HeadPattern HeadConfig::at(int32_t layer, int32_t q_head) const {
  if (layer >= std::ssize(layers)) return {};
  const auto& heads = layers[static_cast<size_t>(layer)];
  const auto found = heads.find(q_head);
  return found == heads.end() ? HeadPattern{} : found->second;
}

int64_t HeadConfig::missing(const HeadCounts& counts) const {
  int64_t present = 0;
  for (const auto& heads : layers) present += std::ssize(heads);
  return int64_t{counts.layers} * counts.q_heads - present;
}

Result<HeadConfig> parse_head_config(std::string_view text, std::string_view origin,
                                     const HeadCounts& counts) {
  return read_json<HeadConfig>(
      text, origin, "JSON",
      [&](const json& list, const std::string& from) { return read_heads(list, from, counts); });
}

std::string write_head_config(const HeadConfig& config) {
  std::string text = "[";
  for (const auto& heads : config.layers) {
    text += text.size() == 1 ? "{" : ", {";
    bool is_first = true;
    for (const auto& [head, pattern] : heads) {
      const auto* known = std::ranges::find(kKinds, pattern.kind, &KindName::kind);
      const std::string score =
          std::visit([](auto number) { return json(number).dump(); }, pattern.score);
      fmt::format_to(std::back_inserter(text), "{}\"{}\": [\"{}\", {}, {}, {}]",
                     is_first ? "" : ", ", head, known->name, pattern.first, pattern.second, score);
      is_first = false;
    }
    text += '}';
  }
  return text + "]";
}

Result<std::optional<DualChunkAttention>> parse_dual_chunk_attention(std::string_view config_json,
                                                                     std::string_view origin,
                                                                     const HeadCounts& counts) {
  using Found = std::optional<DualChunkAttention>;
  return read_json<Found>(
      config_json, origin, "JSON", [&](const json& config, const std::string& from) {
        if (!config.is_object())
          throw Error(ErrorCode::kMalformed,
                      std::string("expected a JSON object, found ") + config.type_name(), from);
        const ConfigReader reader(config, from);
        if (!reader.has(kDualChunk)) return Found();
        const json& object = reader.at(kDualChunk);
        if (!object.is_object()) reader.fail(kDualChunk, "an object", object.dump());
        return Found(read_dual_chunk(object, from + ": " + kDualChunk, counts));
      });
}

Result<std::optional<HeadConfig>> find_head_config(const std::filesystem::path& folder,
                                                   const HeadCounts& counts) {
  const auto path = folder / "sparse_attention_config.json";
  const auto text = read_file(path);
  if (text) {
    auto config = parse_head_config(text.value(), path.string(), counts);
    if (!config) return config.error();
    return std::optional(std::move(config).value());
  }
  if (text.error().code() != ErrorCode::kNotFound) return text.error();
  const auto model_path = folder / "config.json";
  const auto model = read_file(model_path);
  if (!model) return model.error();
  auto dual = parse_dual_chunk_attention(model.value(), model_path.string(), counts);
  if (!dual) return dual.error();
  if (!dual.value()) return std::optional<HeadConfig>();
  return std::move(dual.value()->heads);
}

}  // namespace kvasir::formats
