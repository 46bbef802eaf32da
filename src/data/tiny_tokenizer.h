#pragma once
// The tiny family's vocabulary as a tokenizer: 128 words w000 ... w127, parted by spaces.

#include <cstdint>
#include <string>
#include <string_view>

namespace kvasir::data {

// PAD, BOS and EOT of tasks/tiny.h.
inline constexpr std::string_view kTinyPad = "w000", kTinyBegin = "w001", kTinyEnd = "w002";

std::string tiny_tokenizer_json();
// With a chat template: messages one after another, each answer with its EOT. A session's context
// brings its own BOS.
std::string tiny_tokenizer_config_json(int64_t longest);

}  // namespace kvasir::data
