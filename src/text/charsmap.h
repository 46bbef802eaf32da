#pragma once
// The compiled character map of a SentencePiece model: the normaliser `Precompiled`.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_json.h"

namespace kvasir::text {

// Darts-clone's double-array trie from texts to places in a list of replacements. Immutable.
class Charsmap {
 public:
  // Reads a string: base64 of the trie's size in bytes, its units (both little-endian, 32 bits) and
  // the replacements, each ended by a NUL. Throws Error{kMalformed}.
  static Charsmap parse(const JsonNode& node);

  // The replacement of the shortest text in the map that `text` begins with; nothing where none
  // does. Never throws: what a damaged trie says beyond its bounds is not in the map.
  std::optional<std::string_view> find(std::string_view text) const;
  // Whether `c` is of ASCII, not in the map and no carriage return, which clusters with a line
  // feed.
  bool keeps(char c) const { return (c & 0x80) == 0 && kept_[static_cast<uint8_t>(c)]; }

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
  std::array<bool, 128> kept_{};
};

}  // namespace kvasir::text
