#pragma once
// Decoders: token texts back to plain text, one token at a time.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_json.h"

namespace kvasir::text {

// What flows from stage to stage: a token, or a fragment of one. Up to Fuse and ByteLevel every
// item is a whole token; behind them the whole text is one token that comes in fragments.
struct DecodeItem {
  std::string_view text;
  bool begins_token = true;
};

// One decoder at work on one text. Not thread-safe.
class DecodeStage {
 public:
  virtual ~DecodeStage() = default;
  virtual void push(DecodeItem item) = 0;
  // Ends the text, here and in the stages behind, and makes ready for the next.
  virtual void finish() = 0;

  void set_next(DecodeStage* next) { next_ = next; }

 protected:
  DecodeStage* next_ = nullptr;
};

// The `decoder` component of a tokenizer file, nested sequences flattened. Immutable.
class Decoder {
 public:
  // A null node joins tokens with spaces. Throws Error{kMalformed, kUnsupported}.
  static Decoder parse(const JsonNode& node);

  // A chain of stages that appends its text to an output.
  class Run {
   public:
    Run(const Decoder& decoder, std::string& out);
    void push(std::string_view token) { stages_.front()->push({token, true}); }
    void finish() { stages_.front()->finish(); }

   private:
    std::vector<std::unique_ptr<DecodeStage>> stages_;
  };

 private:
  class Recipe;
  template <class Make>
  void add(Make make);
  void append(const JsonNode& node, int depth);
  void limit_growth(const JsonNode& replace);
  std::vector<std::shared_ptr<const Recipe>> recipes_;
  bool is_fused_ = false;  // while parsing: the text is one token by now
  size_t growth_ = 1;      // while parsing: the most that the replacements so far make of a byte
};

}  // namespace kvasir::text
