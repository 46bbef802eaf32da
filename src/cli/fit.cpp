#include "cli/fit.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/progress.h"
#include "base/suggest.h"

namespace kvasir::cli {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// A cut between tokens may fall inside a character; its halves decode as replacement characters.
void trim_cut_end(std::string& text) {
  while (text.ends_with(kReplacement)) text.resize(text.size() - kReplacement.size());
}
void trim_cut_begin(std::string& text) {
  while (text.starts_with(kReplacement)) text.erase(0, kReplacement.size());
}

}  // namespace

FitPolicy parse_fit(std::string_view name) {
  static const std::vector<std::string> kNames{"error", "middle", "tail"};
  const std::string chosen = choose("--fit", name, kNames);
  return chosen == "error"    ? FitPolicy::kError
         : chosen == "middle" ? FitPolicy::kMiddle
                              : FitPolicy::kTail;
}

DocumentFitter::DocumentFitter(std::string document, TextFunctions text, int64_t limit,
                               FitPolicy policy)
    : original_(std::move(document)),
      document_(original_),
      text_(std::move(text)),
      limit_(limit),
      policy_(policy) {}

std::string DocumentFitter::shortened(int64_t keep) const {
  const std::span<const TokenId> tokens(original_tokens_);
  const auto kept = static_cast<size_t>(keep);
  const size_t head = policy_ == FitPolicy::kMiddle ? (kept + 1) / 2 : 0;
  const size_t tail = kept - head;
  std::string text;
  if (head > 0) {
    text = text_.detokenize(tokens.first(head));
    trim_cut_end(text);
  }
  if (tail > 0) {
    std::string end = text_.detokenize(tokens.last(tail));
    trim_cut_begin(end);
    text += end;
  }
  return text;
}

std::vector<TokenId> DocumentFitter::prompt(const Render& render, int64_t answer_tokens,
                                            int64_t reserve) {
  notice_.clear();
  std::vector<TokenId> tokens = render(document_);
  const auto excess_of = [&](const std::vector<TokenId>& prompt) {
    return static_cast<int64_t>(prompt.size()) + answer_tokens - limit_;
  };
  const int64_t first_excess = excess_of(tokens);
  if (first_excess <= 0) return tokens;
  const auto refuse = [&](int64_t prompt, int64_t excess, const char* remedy) -> Error {
    return Error(ErrorCode::kResourceExhausted,
                 fmt::format("expected at most {} tokens of prompt and answer, found {} (prompt {} "
                             "+ --max-tokens {}): {} too many; {}",
                             with_thousands(limit_), with_thousands(prompt + answer_tokens),
                             with_thousands(prompt), with_thousands(answer_tokens),
                             with_thousands(excess), remedy),
                 "context");
  };
  const auto first_size = static_cast<int64_t>(tokens.size());
  if (policy_ == FitPolicy::kError)
    throw refuse(first_size, first_excess,
                 "shorten the text, lower --max-tokens, or give --fit middle or --fit tail");

  if (original_tokens_.empty()) original_tokens_ = text_.tokenize(original_);
  const auto all = static_cast<int64_t>(original_tokens_.size());
  const auto frame = static_cast<int64_t>(render("").size());
  if (frame + answer_tokens > limit_)
    throw refuse(frame, frame + answer_tokens - limit_,
                 "even without the document; ask less or lower --max-tokens");
  int64_t keep = std::clamp<int64_t>(limit_ - answer_tokens - frame, 0, all);
  keep -= std::min(reserve, keep / 2);
  while (true) {
    // Tokens that meet at the cut may merge or part, so the count is checked and not computed.
    std::string candidate = shortened(keep);
    tokens = render(candidate);
    const int64_t excess = excess_of(tokens);
    if (excess <= 0) {
      document_ = std::move(candidate);
      break;
    }
    if (keep == 0) throw refuse(static_cast<int64_t>(tokens.size()), excess, "ask less");
    keep = std::max<int64_t>(0, keep - excess);
  }
  notice_ = fmt::format(
      "the text is too long for a context of {} tokens: dropped {} of its {} tokens from the {}",
      with_thousands(limit_), with_thousands(all - keep), with_thousands(all),
      policy_ == FitPolicy::kMiddle ? "middle" : "beginning");
  return tokens;
}

}  // namespace kvasir::cli
