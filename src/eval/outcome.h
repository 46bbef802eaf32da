#pragma once
// What one question of a long-context benchmark came to: the line that a run writes as soon as the
// answer is there, and that tables, plots and comparisons are made of.

#include <cstdint>
#include <string>

#include "base/result.h"
#include "kvasir/request.h"

namespace kvasir::eval {

// How the KV of a session's context serves its questions (SCBench, section 3).
enum class Mode : uint8_t {
  kMultiTurn,     // a conversation: each question sees the earlier ones and their answers
  kMultiRequest,  // each question alone behind the shared context
};
const char* mode_name(Mode mode);  // "multi-turn", "multi-request"

struct Outcome {
  // Which question.
  std::string suite, task;
  int64_t length = 0;   // tokens that the context was made for; 0: as it came from a file
  int64_t session = 0;  // from 0
  int64_t turn = 0;     // from 0
  double depth = -1;    // of a needle, 0 (beginning) to 1; -1: does not apply
  Mode mode = Mode::kMultiTurn;

  // By which methods: as typed ("snapkv:capacity=512"), so that they name a row of the matrix.
  std::string prefill = "dense", compress = "plain", retrieve = "dense", loading = "resident";

  // What came of it.
  std::string answer, reference;
  double score = 0;      // strict scorer, 0 to 1
  double published = 0;  // scorer as in the published code (`reference`), 0 to 1
  std::string error;     // why there is no answer; then both scores are 0. Empty: none
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double ttft_seconds = 0, decode_seconds = 0;
  double computed_fraction = 0;  // of prefill attention
  int64_t kv_bytes = 0;          // held for the session after the answer
};

// One line of JSON without its newline, and back. What is no UTF-8 in a text becomes U+FFFD. Throws
// Error: kInvalidArgument, naming a number that is out of its range. Errors: kMalformed, naming the
// field that is missing, unknown or no value of its kind.
std::string to_json_line(const Outcome& outcome);
Result<Outcome> outcome_from_json(const std::string& line);

// Equal where two outcomes are of the same question in the same mode; of the same methods.
std::string question_id(const Outcome& outcome);
std::string method_id(const Outcome& outcome);

}  // namespace kvasir::eval
