#pragma once
// From a sample's tokens to its text: detokenization, then stop strings.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvasir/request.h"

namespace kvasir::engine {

// Turns a sample's tokens into text piece by piece (text::TokenDecoder behind a small interface, so
// that the loop runs without a tokenizer in tests).
class Detokenizer {
 public:
  virtual ~Detokenizer() = default;
  virtual std::string push(TokenId token) = 0;  // complete UTF-8 only
  virtual std::string finish() = 0;
};

// Finds the first stop string that is complete, character by character, so that the text does not
// depend on how it is cut into tokens; of several that end at one place, the longest. Text that
// could be the start of one is held back.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Adds text and returns what now certainly belongs to the answer. After a stop string has been
  // found everything is dropped, the stop string included.
  std::string push(std::string_view text);
  // What is still held back: no more text comes.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;  // not empty
  std::string held_;
  bool stopped_ = false;
};

class AnswerText {
 public:
  AnswerText(std::unique_ptr<Detokenizer> detokenizer, std::vector<std::string> stops)
      : detokenizer_(std::move(detokenizer)), matcher_(std::move(stops)) {}

  std::string push(TokenId token) { return matcher_.push(detokenizer_->push(token)); }
  std::string finish();
  bool stopped() const { return matcher_.stopped(); }

 private:
  std::unique_ptr<Detokenizer> detokenizer_;
  StopMatcher matcher_;
};

}  // namespace kvasir::engine
