#pragma once
// Pre-tokenisers: cutting normalised text into words, the units that no token reaches across.

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_json.h"
#include "text/unicode_pattern.h"

namespace kvasir::text {

// A part of the text on its way through the steps. `origin_bytes`: how many of its leading bytes
// stem from the first character of the whole input (see NormalizedText).
struct Piece {
  std::string_view text;
  size_t origin_bytes = 0;

  Piece part(size_t begin, size_t end) const {
    const size_t origin = origin_bytes > begin ? origin_bytes - begin : 0;
    return {text.substr(begin, end - begin), std::min(origin, end - begin)};
  }
};

// A non-owning reference to a callable, so that steps can be virtual without std::function's cost.
class PieceSink {
 public:
  template <class Callable>
  PieceSink(Callable& callable)
      : context_(&callable),
        call_([](void* context, Piece piece) { (*static_cast<Callable*>(context))(piece); }) {}
  void operator()(Piece piece) const { call_(context_, piece); }

 private:
  void* context_;
  void (*call_)(void*, Piece);
};

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// One step. Immutable and thread-safe. A step handles each piece by itself and emits parts in
// order; emitted text lives until the sink returns.
class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  virtual void split(Piece piece, PieceSink sink) const = 0;
  // The expression whose isolated matches, and what stands between them, are the step's parts;
  // null for steps of any other kind.
  virtual const Pattern* isolating_pattern() const { return nullptr; }
  // The first place at or behind `from` > 0 (and before the end) where a text may be cut so that
  // the parts one by one give what the whole gives; text.size() if none is known.
  virtual size_t safe_cut(std::string_view text, size_t from) const {
    (void)from;
    return text.size();
  }
};

// The `pre_tokenizer` component of a tokenizer file, nested sequences flattened.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  // A null node gives the identity. Throws Error{kMalformed, kUnsupported}.
  static PreTokenizer parse(const JsonNode& node);

  // For a model that works on raw bytes: where the last step is a ByteLevel, takes it away, so that
  // its words stay bytes. False, and nothing changed, where it is another.
  bool take_byte_level();

  // Emits the words of `piece` in order; empty ones are left out. Throws Error{kResourceExhausted}
  // for steps that grow text without bound and expressions that backtrack without end.
  void split(Piece piece, PieceSink sink) const { run(0, piece, piece.text.size(), sink); }

  // When the first step isolates the matches of an expression, that expression: pieces between
  // such matches may be passed to split_after_first() one by one, with the same result.
  const Pattern* first_pattern() const {
    return steps_.empty() ? nullptr : steps_.front()->isolating_pattern();
  }
  void split_after_first(Piece piece, PieceSink sink) const {
    run(1, piece, piece.text.size(), sink);
  }
  // The same for a piece that may be cut anywhere its first step allows; see PreTokenizerStep.
  size_t safe_cut(std::string_view text, size_t from) const {
    return steps_.empty() ? text.size() : steps_.front()->safe_cut(text, from);
  }

 private:
  void append(const JsonNode& node, int depth);
  void run(size_t step, Piece piece, size_t original_bytes, PieceSink sink) const;

  std::vector<std::shared_ptr<const PreTokenizerStep>> steps_;
  bool is_byte_level_ = false;
};

}  // namespace kvasir::text
