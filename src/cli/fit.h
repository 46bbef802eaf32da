#pragma once
// Prompts that fit the context: documents and messages to token ids, shortened as --fit says.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvasir/engine.h"

namespace kvasir::cli {

enum class FitPolicy { kError, kMiddle, kTail };
FitPolicy parse_fit(std::string_view name);

// The text functions of the engine that fitting needs; a seam for tests.
struct TextFunctions {
  std::function<std::vector<TokenId>(std::string_view text)> tokenize;  // no special tokens added
  std::function<std::string(std::span<const TokenId> tokens)> detokenize;  // all of them kept
};

// Makes the prompts that hold one document. Once shortened, the document stays so: later prompts
// begin with the same text and find its KV.
class DocumentFitter {
 public:
  // The ids of the whole prompt that holds `document`.
  using Render = std::function<std::vector<TokenId>(std::string_view document)>;

  // `limit`: tokens of prompt and answer together.
  DocumentFitter(std::string document, TextFunctions text, int64_t limit, FitPolicy policy);

  // The prompt, shortened where prompt and `answer_tokens` exceed the limit. `reserve`: tokens to
  // keep free for later turns as well when it is shortened. Throws Error{kResourceExhausted} that
  // says by how many tokens it is too long: always under kError, otherwise where even an empty
  // document would not fit.
  std::vector<TokenId> prompt(const Render& render, int64_t answer_tokens, int64_t reserve = 0);

  // What the last prompt() dropped, for the reader; empty where it dropped nothing new.
  const std::string& notice() const { return notice_; }
  const std::string& document() const { return document_; }

 private:
  std::string shortened(int64_t keep) const;

  std::string original_, document_;
  std::vector<TokenId> original_tokens_;  // made when first needed
  TextFunctions text_;
  int64_t limit_;
  FitPolicy policy_;
  std::string notice_;
};

}  // namespace kvasir::cli
