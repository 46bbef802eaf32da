// Any bytes as a head configuration: what is read is written and read again as the same bytes.

#include "formats/head_config.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const kvasir::formats::HeadCounts counts{.layers = 4, .q_heads = 8};
  if (const auto config = kvasir::formats::parse_head_config(json, "fuzz", counts); config) {
    const std::string text = kvasir::formats::write_head_config(config.value());
    const auto again = kvasir::formats::parse_head_config(text, "fuzz", counts);
    kvasir::fuzz::check(again.ok(), "what is written can be read");
    kvasir::fuzz::check(kvasir::formats::write_head_config(again.value()) == text,
                        "the same bytes again");
  } else {
    kvasir::fuzz::check(!config.error().message().empty(), "an error says what is wrong");
  }
  (void)kvasir::formats::parse_dual_chunk_attention(json, "fuzz", counts).ok();
  return 0;
}
