#include "prefill/xattention/thresholds_file.h"

#include <string>

#include "formats/config_reader.h"
#include "formats/json_text.h"

namespace kvasir::prefill::xattention {
namespace {

using nlohmann::json;

Thresholds read(const json& object, const std::string& origin) {
  if (!object.is_object())
    throw Error(ErrorCode::kMalformed, "expected a JSON object, found another value", origin);
  const formats::ConfigReader reader(object, origin);
  if (reader.text("schema", "") != kThresholdsSchema)
    reader.fail("schema", kThresholdsSchema, reader.text("schema", "none"));
  Thresholds found;
  found.stride = static_cast<int>(reader.integer("stride", 8, 16, found.stride));
  if (found.stride != 8 && found.stride != 16)
    reader.fail("stride", "8 or 16", std::to_string(found.stride));
  if (!reader.has("thresholds") || !reader.at("thresholds").is_array())
    reader.fail("thresholds", "a list of layers", "none");
  for (const json& layer : reader.at("thresholds")) {
    const bool is_first = found.layers++ == 0;
    if (!layer.is_array()) reader.fail("thresholds", "a list for each layer", layer.dump());
    if (is_first) found.q_heads = static_cast<int>(layer.size());
    if (static_cast<int>(layer.size()) != found.q_heads)
      reader.fail("thresholds", "as many heads in each layer", layer.dump());
    for (const json& each : layer) {
      const double value = each.is_number() ? each.get<double>() : 0;
      if (!(value > 0 && value <= 1))
        reader.fail("thresholds", "numbers above 0 and at most 1", each.dump());
      found.heads.push_back(static_cast<float>(value));
    }
  }
  return found;
}

}  // namespace

Result<Thresholds> parse_thresholds(std::string_view text, std::string_view origin) {
  return formats::read_json<Thresholds>(text, origin, "a JSON object", read);
}

}  // namespace kvasir::prefill::xattention
