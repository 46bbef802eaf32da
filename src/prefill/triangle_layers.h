#pragma once
// The layers of a model that TriangleMix makes tri-shape, as a file beside the checkpoint:
//
//   {"schema": "trianglemix/1", "num_layers": 32, "layers": [16, 17], "n_init": 8, "n_local": 512,
//    "n_last": 128, "probe": {...}}

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kvasir::prefill {

inline constexpr const char* kTriangleFile = "trianglemix.json";
inline constexpr const char* kTriangleSchema = "trianglemix/1";

struct TriangleLayers {
  std::vector<int32_t> layers;                // ascending; none: all stay dense
  int32_t init = 8, local = 512, last = 128;  // the paper's
};

// Errors: kMalformed: another schema or number of layers, layers twice or out of range.
Result<TriangleLayers> parse_triangle_layers(std::string_view text, std::string_view origin,
                                             int32_t num_layers);

}  // namespace kvasir::prefill
