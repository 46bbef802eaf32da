#pragma once
// Regular expressions of tokenizer files: written for Oniguruma (Ruby syntax), run by PCRE2 with
// JIT.

#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer_json.h"

namespace kvasir::text {

// The PCRE2 expression that means the same as an Oniguruma one in Ruby syntax: \s, \w, \d, \h with
// Oniguruma's Unicode sets, {,n}, the option letter m. Throws Error{kUnsupported} for constructs
// that PCRE2 lacks or reads differently (nested sets, &&, absent operators, {n,m}+, \G, \K).
std::string translate_pattern(std::string_view expression, std::string_view where);

// An immutable compiled pattern; copies share the program. Thread-safe.
class Pattern {
 public:
  // Throws Error{kMalformed or kUnsupported} with `where` as context.
  static Pattern regex(std::string_view expression, std::string_view where);
  static Pattern literal(std::string_view text, std::string_view where);

  // All matches from left to right, as Oniguruma's iterator yields them: an empty match directly
  // behind the previous match is skipped. `text` is valid UTF-8 and outlives the object. Matches
  // from a `start` where a match has ended are those that follow it.
  class Matches {
   public:
    Matches(const Pattern& pattern, std::string_view text, size_t start = 0)
        : pattern_(pattern),
          text_(text),
          from_(start),
          last_end_(start > 0 ? start : std::string_view::npos) {}
    // The next match as [begin, end). False when there is none. Throws Error{kResourceExhausted}
    // where the expression backtracks beyond the limit.
    bool next(size_t& begin, size_t& end);

   private:
    const Pattern& pattern_;
    std::string_view text_;
    size_t from_, last_end_;
  };

 private:
  struct Program;
  bool search(std::string_view text, size_t from, size_t& begin, size_t& end) const;

  std::string literal_;                     // where not empty, the whole pattern
  std::shared_ptr<const Program> program_;  // otherwise
};

// {"String": text} or {"Regex": expression}, as tokenizer files write patterns.
Pattern parse_pattern(const JsonNode& node);

}  // namespace kvasir::text
