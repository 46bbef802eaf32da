#include "text/pre_tokenizer.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "text/unicode.h"
#include "text/unicode_scripts.h"
#include "text/unicode_sets.h"

namespace kvasir::text {

namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxSteps = 64;  // each is a level of recursion

constexpr std::string_view kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Span {
  size_t begin, end;
  bool is_match;
};

void emit(Piece piece, size_t begin, size_t end, PieceSink sink) {
  if (begin < end) sink(piece.part(begin, end));
}

// Joins spans (which cover the piece) by the rules of the behaviour and emits the parts.
void emit_spans(Piece piece, std::vector<Span>& spans, SplitBehavior behavior, PieceSink sink) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const Span& span : spans) emit(piece, span.begin, span.end, sink);
      return;
    case SplitBehavior::kRemoved:
      for (const Span& span : spans) {
        if (!span.is_match) emit(piece, span.begin, span.end, sink);
      }
      return;
    default:
      break;
  }
  const bool backwards = behavior == SplitBehavior::kMergedWithNext;
  if (backwards) std::ranges::reverse(spans);
  std::vector<Span> parts;
  bool previous = false;
  for (const Span& span : spans) {
    const bool joins = behavior == SplitBehavior::kContiguous ? span.is_match == previous
                                                              : span.is_match && !previous;
    if (joins && !parts.empty()) {
      if (backwards) {
        parts.back().begin = span.begin;
      } else {
        parts.back().end = span.end;
      }
    } else {
      parts.push_back(span);
    }
    previous = span.is_match;
  }
  if (backwards) std::ranges::reverse(parts);
  for (const Span& part : parts) emit(piece, part.begin, part.end, sink);
}

class Split final : public PreTokenizerStep {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  const Pattern* isolating_pattern() const override {
    return behavior_ == SplitBehavior::kIsolated ? &pattern_ : nullptr;
  }

  void split(Piece piece, PieceSink sink) const override {
    Pattern::Matches matches(pattern_, piece.text);
    size_t begin = 0, end = 0, previous = 0;
    if (behavior_ == SplitBehavior::kIsolated) {
      while (matches.next(begin, end)) {
        emit(piece, previous, begin, sink);
        emit(piece, begin, end, sink);
        previous = end;
      }
      emit(piece, previous, piece.text.size(), sink);
      return;
    }
    std::vector<Span> spans;
    while (matches.next(begin, end)) {
      if (previous != begin) spans.push_back({previous, begin, invert_});
      spans.push_back({begin, end, !invert_});
      previous = end;
    }
    if (previous != piece.text.size()) spans.push_back({previous, piece.text.size(), invert_});
    emit_spans(piece, spans, behavior_, sink);
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// The first place at or behind `from` where a character of a set begins; text.size() if none.
template <class Predicate>
size_t find_character(std::string_view text, size_t from, const Predicate& matches) {
  while (from < text.size() && is_utf8_continuation(text[from])) ++from;
  for (size_t at = from; at < text.size();) {
    const size_t begin = at;
    if (matches(next_code_point(text, at))) return begin;
  }
  return text.size();
}

// Splits at every character of a set; each such character is a match of its own.
template <class Predicate>
class CharacterSplit final : public PreTokenizerStep {
 public:
  CharacterSplit(Predicate matches, SplitBehavior behavior)
      : matches_(std::move(matches)), behavior_(behavior) {}

  void split(Piece piece, PieceSink sink) const override {
    if (behavior_ == SplitBehavior::kRemoved || behavior_ == SplitBehavior::kIsolated) {
      return for_each_span(piece.text, [&](const Span& span) {
        if (behavior_ == SplitBehavior::kIsolated || !span.is_match)
          emit(piece, span.begin, span.end, sink);
      });
    }
    std::vector<Span> spans;
    for_each_span(piece.text, [&](const Span& span) { spans.push_back(span); });
    emit_spans(piece, spans, behavior_, sink);
  }

  // Before a character that is a part, or none, whatever stands beside it.
  size_t safe_cut(std::string_view text, size_t from) const override {
    if (behavior_ != SplitBehavior::kRemoved && behavior_ != SplitBehavior::kIsolated)
      return text.size();
    return find_character(text, from, matches_);
  }

 private:
  template <class Body>
  void for_each_span(std::string_view text, const Body& body) const {
    size_t previous = 0;
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (!matches_(next_code_point(text, at))) continue;
      if (previous < begin) body(Span{previous, begin, false});
      body(Span{begin, at, true});
      previous = at;
    }
    if (previous < text.size()) body(Span{previous, text.size(), false});
  }

  Predicate matches_;
  SplitBehavior behavior_;
};

// Runs of word characters and runs of other characters that are not whitespace.
class Whitespace final : public PreTokenizerStep {
 public:
  void split(Piece piece, PieceSink sink) const override {
    enum Kind { kSpace, kWord, kOther };
    size_t begin = 0;
    Kind run = kSpace;
    for (size_t at = 0; at < piece.text.size();) {
      const size_t here = at;
      const char32_t c = next_code_point(piece.text, at);
      const Kind kind = is_word(c) ? kWord : is_whitespace(c) ? kSpace : kOther;
      if (kind == run) continue;
      if (run != kSpace) emit(piece, begin, here, sink);
      begin = here;
      run = kind;
    }
    if (run != kSpace) emit(piece, begin, piece.text.size(), sink);
  }
  size_t safe_cut(std::string_view text, size_t from) const override {
    return find_character(text, from, is_whitespace);
  }
};

// Parts of so many characters.
class FixedLength final : public PreTokenizerStep {
 public:
  explicit FixedLength(size_t characters) : characters_(characters) {}

  void split(Piece piece, PieceSink sink) const override {
    size_t begin = 0, count = 0;
    for (size_t at = 0; at < piece.text.size();) {
      next_code_point(piece.text, at);
      if (++count < characters_) continue;
      emit(piece, begin, at, sink);
      begin = at;
      count = 0;
    }
    emit(piece, begin, piece.text.size(), sink);
  }

 private:
  size_t characters_;
};

// Parts of one script each; spaces go with what stands before them, and are lost at the beginning.
class UnicodeScripts final : public PreTokenizerStep {
 public:
  void split(Piece piece, PieceSink sink) const override {
    size_t begin = piece.text.size();
    int last = kAnyScript;
    for (size_t at = 0; at < piece.text.size();) {
      const size_t here = at;
      const int script = sentencepiece_script(next_code_point(piece.text, at));
      if (script == kAnyScript || script == last) continue;
      emit(piece, begin, here, sink);
      begin = here;
      last = script;
    }
    emit(piece, begin, piece.text.size(), sink);
  }
};

class Metaspace final : public PreTokenizerStep {
 public:
  enum class Prepend { kFirst, kNever, kAlways };

  Metaspace(char32_t replacement, Prepend prepend, bool split) : prepend_(prepend), split_(split) {
    append_utf8(replacement, mark_);
  }

  void split(Piece piece, PieceSink sink) const override {
    std::string text;
    text.reserve(piece.text.size() + piece.text.size() / 2 + mark_.size());
    const bool has_mark = piece.text.starts_with(mark_) || piece.text.starts_with(' ');
    const bool prepends = !has_mark && (prepend_ == Prepend::kAlways ||
                                        (prepend_ == Prepend::kFirst && piece.origin_bytes > 0));
    if (prepends) text.append(mark_);
    size_t origin = 0;
    for (size_t at = 0; at < piece.text.size(); ++at) {
      if (piece.text[at] == ' ') {
        text.append(mark_);
      } else {
        text.push_back(piece.text[at]);
      }
      if (at < piece.origin_bytes) origin = text.size();
    }
    const Piece replaced{text, origin};
    if (!split_) return emit(replaced, 0, text.size(), sink);
    size_t begin = 0, at = mark_.size();
    if (!std::string_view(text).starts_with(mark_)) at = 0;
    // Each mark opens a part.
    while ((at = text.find(mark_, at)) != std::string::npos) {
      emit(replaced, begin, at, sink);
      begin = at;
      at += mark_.size();
    }
    emit(replaced, begin, text.size(), sink);
  }

  // Before a space: it becomes a mark, which opens a part and lets no further one be put before it.
  size_t safe_cut(std::string_view text, size_t from) const override {
    return split_ ? std::min(text.find(' ', from), text.size()) : text.size();
  }

 private:
  std::string mark_;
  Prepend prepend_;
  bool split_;
};

// ByteLevel where other steps or a model of text follow: the bytes are written as characters.
class ByteCharacters final : public PreTokenizerStep {
 public:
  void split(Piece piece, PieceSink sink) const override {
    std::string text;
    text.reserve(piece.text.size() * 2);
    size_t origin = 0;
    for (size_t at = 0; at < piece.text.size(); ++at) {
      append_utf8(byte_to_char(static_cast<uint8_t>(piece.text[at])), text);
      if (at < piece.origin_bytes) origin = text.size();
    }
    sink({text, origin});
  }
};

class PrefixSpace final : public PreTokenizerStep {
 public:
  void split(Piece piece, PieceSink sink) const override {
    if (piece.text.starts_with(' ')) return sink(piece);
    std::string text(1, ' ');
    text.append(piece.text);
    sink({text, piece.origin_bytes > 0 ? piece.origin_bytes + 1 : 0});
  }
};

SplitBehavior parse_behavior(const JsonNode& node) {
  const std::string& name = node.as_string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  node.unsupported(name, "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

Metaspace::Prepend parse_prepend(const JsonNode& node) {
  const std::string scheme = node.string_or("prepend_scheme", "always");
  if (!node.boolean_or("add_prefix_space", true)) {
    // Files from before `prepend_scheme` say it this way.
    if (node.has("prepend_scheme") && scheme != "never") {
      node.malformed("add_prefix_space and prepend_scheme that agree");
    }
    return Metaspace::Prepend::kNever;
  }
  if (scheme == "first") return Metaspace::Prepend::kFirst;
  if (scheme == "never") return Metaspace::Prepend::kNever;
  if (scheme == "always") return Metaspace::Prepend::kAlways;
  node.at("prepend_scheme").unsupported(scheme, "first, never, always");
}

}  // namespace

PreTokenizer PreTokenizer::parse(const JsonNode& node) {
  PreTokenizer result;
  if (!node.is_null()) result.append(node, 0);
  return result;
}

bool PreTokenizer::take_byte_level() {
  if (is_byte_level_) steps_.pop_back();
  return std::exchange(is_byte_level_, false);
}

void PreTokenizer::append(const JsonNode& node, int depth) {
  if (depth > kMaxDepth) node.malformed("at most 16 nested sequences");
  const std::string& type = node.string("type");
  const auto add = [&](auto step) {
    if (steps_.size() == kMaxSteps) node.malformed("at most 64 steps");
    steps_.push_back(std::make_shared<const decltype(step)>(std::move(step)));
    is_byte_level_ = std::is_same_v<decltype(step), ByteCharacters>;
  };
  if (type == "Sequence") {
    const JsonNode list = node.at("pretokenizers");
    for (size_t i = 0; i < list.size(); ++i) append(list.at(i), depth + 1);
  } else if (type == "Split") {
    add(Split(parse_pattern(node.at("pattern")), parse_behavior(node.at("behavior")),
              node.boolean("invert")));
  } else if (type == "ByteLevel") {
    if (node.boolean("add_prefix_space")) add(PrefixSpace());
    if (node.boolean_or("use_regex", true)) {
      add(Split(Pattern::regex(kGpt2Expression, node.where()), SplitBehavior::kIsolated, false));
    }
    add(ByteCharacters());
  } else if (type == "Digits") {
    add(CharacterSplit(is_numeric, node.boolean("individual_digits") ? SplitBehavior::kIsolated
                                                                     : SplitBehavior::kContiguous));
  } else if (type == "Punctuation") {
    add(CharacterSplit(is_punctuation, node.has("behavior") ? parse_behavior(node.at("behavior"))
                                                            : SplitBehavior::kIsolated));
  } else if (type == "WhitespaceSplit") {
    add(CharacterSplit(is_whitespace, SplitBehavior::kRemoved));
  } else if (type == "BertPreTokenizer") {
    add(CharacterSplit(is_whitespace, SplitBehavior::kRemoved));
    add(CharacterSplit(is_punctuation, SplitBehavior::kIsolated));
  } else if (type == "CharDelimiterSplit") {
    add(CharacterSplit(
        [delimiter = node.character("delimiter")](char32_t c) { return c == delimiter; },
        SplitBehavior::kRemoved));
  } else if (type == "FixedLength") {
    constexpr int64_t kDefault = 5;
    const bool given = node.has("length");
    add(FixedLength(static_cast<size_t>(given ? node.integer("length", 1, INT64_MAX) : kDefault)));
  } else if (type == "UnicodeScripts") {
    add(UnicodeScripts());
  } else if (type == "Whitespace") {
    add(Whitespace());
  } else if (type == "Metaspace") {
    add(Metaspace(node.character("replacement"), parse_prepend(node),
                  node.boolean_or("split", true)));
  } else {
    node.unsupported(
        type,
        "Sequence, Split, ByteLevel, Digits, Punctuation, Whitespace, WhitespaceSplit, "
        "Metaspace, BertPreTokenizer, CharDelimiterSplit, FixedLength, UnicodeScripts");
  }
}

void PreTokenizer::run(size_t step, Piece piece, size_t original_bytes, PieceSink sink) const {
  if (piece.text.empty()) return;
  check_growth(piece.text.size(), original_bytes);
  if (step == steps_.size()) return sink(piece);
  auto next = [&](Piece part) { run(step + 1, part, original_bytes, sink); };
  steps_[step]->split(piece, PieceSink(next));
}

}  // namespace kvasir::text
