#include "text/unicode_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include "kvasir/error.h"
#include "text/unicode.h"

namespace kvasir::text {

namespace {

constexpr size_t kJitStackBytes = 1 << 20;

// What a thread needs to run any program: room for one match and the JIT's stack.
struct MatchScratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr);

  MatchScratch() {
    if (data == nullptr || context == nullptr) throw std::bad_alloc();
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchScratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;
};

MatchScratch& match_scratch() {
  thread_local MatchScratch scratch;
  return scratch;
}

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Pattern::Program {
  pcre2_code* code = nullptr;
  bool jit = false;
  std::string where;
  ~Program() { pcre2_code_free(code); }
};

Pattern Pattern::regex(std::string_view expression, std::string_view where) {
  const std::string translated = translate_pattern(expression, where);
  auto program = std::make_shared<Program>();
  program->where = where;
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context, 100);
  program->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK,
                    &error, &offset, context);
  pcre2_compile_context_free(context);
  if (program->code == nullptr) {
    throw Error(
        ErrorCode::kMalformed,
        fmt::format("expected a regular expression that PCRE2 can compile, found \"{}\": {} "
                    "at byte {} of its translation \"{}\"",
                    expression, pcre2_message(error), offset, translated),
        std::string(where));
  }
  program->jit = pcre2_jit_compile(program->code, PCRE2_JIT_COMPLETE) == 0;
  Pattern pattern;
  pattern.program_ = std::move(program);
  return pattern;
}

Pattern Pattern::literal(std::string_view text, std::string_view where) {
  if (text.empty()) return regex("", where);
  Pattern pattern;
  pattern.literal_ = text;
  return pattern;
}

bool Pattern::search(std::string_view text, size_t from, size_t& begin, size_t& end) const {
  if (!literal_.empty()) {
    begin = text.find(literal_, from);
    end = begin + literal_.size();
    return begin != std::string_view::npos;
  }
  MatchScratch& scratch = match_scratch();
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = PCRE2_ERROR_JIT_STACKLIMIT;
  if (program_->jit) {
    found = pcre2_jit_match(program_->code, subject, text.size(), from, 0, scratch.data,
                            scratch.context);
  }
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
    found = pcre2_match(program_->code, subject, text.size(), from,
                        PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch.data, scratch.context);
  }
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) {
    throw Error(ErrorCode::kResourceExhausted,
                fmt::format("the expression cannot be matched at byte {} of the text: {}; simplify "
                            "the expression",
                            from, pcre2_message(found)),
                program_->where);
  }
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(scratch.data);
  begin = range[0];
  end = range[1];
  return begin <= end;
}

bool Pattern::Matches::next(size_t& begin, size_t& end) {
  while (from_ <= text_.size() && !text_.empty()) {
    if (!pattern_.search(text_, from_, begin, end)) return false;
    if (begin == end && end == last_end_) {
      from_ = end < text_.size() ? end + static_cast<size_t>(utf8_size(text_[end])) : end + 1;
      continue;
    }
    from_ = last_end_ = end;
    return true;
  }
  return false;
}

Pattern parse_pattern(const JsonNode& node) {
  if (node.has("String")) return Pattern::literal(node.string("String"), node.where());
  if (node.has("Regex")) return Pattern::regex(node.string("Regex"), node.where());
  node.malformed("{\"String\": text} or {\"Regex\": expression}");
}

}  // namespace kvasir::text
