#include "prefill/triangle_layers.h"

#include <algorithm>

#include "formats/config_reader.h"
#include "formats/json_text.h"

namespace kvasir::prefill {
namespace {

constexpr int64_t kMostTokens = 1 << 30;

TriangleLayers read(const nlohmann::json& object, const std::string& origin, int32_t num_layers) {
  if (!object.is_object())
    throw Error(ErrorCode::kMalformed, "expected a JSON object, found another value", origin);
  const formats::ConfigReader reader(object, origin);
  if (reader.text("schema", "") != kTriangleSchema)
    reader.fail("schema", kTriangleSchema, reader.text("schema", "none"));
  reader.integer("num_layers", num_layers, num_layers, std::nullopt);
  if (!reader.has("layers")) reader.fail("layers", "a list of layers", "none");
  TriangleLayers found;
  const auto tokens = [&](const char* key, int64_t least, int32_t otherwise) {
    return static_cast<int32_t>(reader.integer(key, least, kMostTokens, otherwise));
  };
  found.init = tokens("n_init", 0, found.init);
  found.local = tokens("n_local", 1, found.local);
  found.last = tokens("n_last", 0, found.last);
  found.layers = reader.tokens("layers");
  std::ranges::sort(found.layers);
  const bool is_repeated = std::ranges::adjacent_find(found.layers) != found.layers.end();
  if (is_repeated || (!found.layers.empty() && found.layers.back() >= num_layers))
    reader.fail("layers", "layers of the model, each once", reader.at("layers").dump());
  return found;
}

}  // namespace

Result<TriangleLayers> parse_triangle_layers(std::string_view text, std::string_view origin,
                                             int32_t num_layers) {
  return formats::read_json<TriangleLayers>(
      text, origin, "a JSON object", [num_layers](const nlohmann::json& object, std::string from) {
        return read(object, from, num_layers);
      });
}

}  // namespace kvasir::prefill
