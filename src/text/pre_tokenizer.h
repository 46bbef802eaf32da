#pragma once
// Pre-tokenisers: cutting normalised text into words, the units that BPE never merges across.

#include <array>
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
};

// The `pre_tokenizer` component of a tokenizer file, nested sequences flattened. A ByteLevel step
// at the end is not among the steps: its words stay raw bytes, and `is_byte_level` tells the model.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  // A null node gives the identity. Throws Error{kMalformed, kUnsupported}.
  static PreTokenizer parse(const JsonNode& node);

  bool is_byte_level() const { return is_byte_level_; }

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

 private:
  void append(const JsonNode& node, int depth);
  void run(size_t step, Piece piece, size_t original_bytes, PieceSink sink) const;

  std::vector<std::shared_ptr<const PreTokenizerStep>> steps_;
  bool is_byte_level_ = false;
};

}  // namespace kvasir::text
