// Any bytes as config.json and as generation_config.json.

#include "formats/model_config.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  if (const auto config = kvasir::formats::parse_model_config(json, "fuzz"); config) {
    kvasir::fuzz::check(config.value().sliding_window.empty() ||
                            std::ssize(config.value().sliding_window) == config.value().num_layers,
                        "a window for each layer");
  } else {
    kvasir::fuzz::check(!config.error().message().empty(), "an error says what is wrong");
  }
  (void)kvasir::formats::parse_generation_config(json, "fuzz").ok();
  return 0;
}
