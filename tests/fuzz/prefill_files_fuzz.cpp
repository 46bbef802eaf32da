// Any bytes as the files of prefill methods' options: measurements for auto, layers, thresholds.

#include "fuzz.h"
#include "prefill/auto_table.h"
#include "prefill/triangle_layers.h"
#include "prefill/xattention/thresholds_file.h"

using kvasir::fuzz::check;
namespace prefill = kvasir::prefill;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  if (const auto table = prefill::parse_auto_table(json, "fuzz"); table) {
    const std::string text = write_auto_table(table.value());
    const auto again = prefill::parse_auto_table(text, "fuzz");
    check(again.ok() && write_auto_table(again.value()) == text, "the same bytes again");
    for (const prefill::AutoDevice& device : table.value().devices)
      for (const int64_t length : {int64_t{1}, int64_t{5000}, int64_t{1} << 41})
        check(!choose_prefill(device, length, prefill::kAutoBound).method.name.empty(),
              "there is always a method");
  }
  if (const auto layers = prefill::parse_triangle_layers(json, "fuzz", 8); layers)
    for (const int32_t layer : layers.value().layers)
      check(layer >= 0 && layer < 8, "layers of the model");
  if (const auto found = prefill::xattention::parse_thresholds(json, "fuzz"); found)
    check(std::ssize(found.value().heads) == int64_t{found.value().layers} * found.value().q_heads,
          "a threshold for each head");
  return 0;
}
