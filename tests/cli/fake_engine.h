#pragma once
// The public API as a set of rules, for tests of the command line: no model, no files, no threads.
//
// Tokens are bytes of the text (ids 0..255) and three special tokens, written <|begin|>, <|user|>
// and <|answer|> (256, 257, 258). An answer is "<n> tokens about " and the question, where n counts
// the prompt's tokens; with samples > 1, " (sample k)". "/loud" in the question answers in
// capitals. Cached tokens are the longest prefix that equals that of an earlier prompt.
//
// Rules come from the model's name (FakeRules::of), so that a program under test can be told too:
// "fake,context=100,slow_ms=5" is a model of 100 positions that takes 5 ms a token.

#include <atomic>
#include <functional>
#include <string>

#include "kvasir/engine.h"

namespace kvasir::fake {

struct FakeRules {
  int64_t context = 100000;
  int64_t slow_ms = 0;          // per token
  int64_t prefill_slow_ms = 0;  // per 64 prompt tokens
  std::string load_error;       // an error code name: load() and inspect() throw it
  std::string submit_error;     // submit() throws it
  std::string answer_error;     // every answer ends with it, after three tokens
  std::string bad_question;     // only answers to questions that hold this text end with an error
  bool no_template = false;
  bool endless = false;   // answers go on to max_tokens
  bool fallback = false;  // the report names a fallback
  bool announce = false;  // says "answering" on standard error before an answer's first token
  static FakeRules of(const std::string& model_name);
};

// What happened, for tests in the same process.
struct FakeLog {
  std::atomic<int64_t> loads{0}, submits{0}, cancels{0}, finished{0}, running{0}, most_running{0};
  std::function<void(const Request&)> on_submit;
  std::function<void(int64_t token)> on_token;  // called before each token of any answer
};
FakeLog& log();
void reset_log();

}  // namespace kvasir::fake
