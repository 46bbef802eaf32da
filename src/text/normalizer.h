#pragma once
// Normalisers: what happens to text before it is cut into words.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_json.h"
#include "text/unicode_pattern.h"

namespace kvasir::text {

// Text on its way through the normalisers. `origin_bytes` says how many leading bytes stem from the
// very first character of the input: what "is at the beginning" means to Metaspace once text was
// put before it.
struct NormalizedText {
  std::string text;
  size_t origin_bytes = 0;
  size_t original_bytes = 0;  // of the text as it came
};

// One step. Immutable and thread-safe.
class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  virtual void apply(NormalizedText& value) const = 0;
};

// The `normalizer` component of a tokenizer file, nested sequences flattened.
class Normalizer {
 public:
  Normalizer() = default;
  // A null node gives the identity. Throws Error{kMalformed, kUnsupported}.
  static Normalizer parse(const JsonNode& node);

  bool is_identity() const { return steps_.empty(); }
  // `text` is valid UTF-8; `at_origin` says that it is the beginning of the input. Throws
  // Error{kResourceExhausted} for steps that grow text without bound.
  NormalizedText apply(std::string_view text, bool at_origin) const;

 private:
  void append(const JsonNode& node, int depth);
  std::vector<std::shared_ptr<const NormalizerStep>> steps_;
};

}  // namespace kvasir::text
