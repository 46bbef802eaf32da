#pragma once
// Post-processors: what is put around the ids of a text.

#include <span>
#include <vector>

#include "text/token_tables.h"
#include "text/tokenizer_json.h"

namespace kvasir::text {

// The `post_processor` component of a tokenizer file for a single text. Offsets and type ids, which
// Kvasir has no use for, are not kept. Immutable.
class PostProcessor {
 public:
  // A null node changes nothing. Throws Error{kMalformed, kUnsupported}.
  static PostProcessor parse(const JsonNode& node);

  // Only repeats of the text itself remain without `add_special_tokens`.
  std::vector<TokenId> apply(std::vector<TokenId> ids, bool add_special_tokens) const;
  // The highest id that apply() can add; -1 if none.
  TokenId highest_id() const;

 private:
  struct Part {
    bool is_text;
    std::vector<TokenId> ids;
  };
  void append(const JsonNode& node, int depth);
  std::vector<std::vector<Part>> templates_;  // applied one after the other
};

}  // namespace kvasir::text
