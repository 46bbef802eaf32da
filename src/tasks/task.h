#pragma once
// What a long-context task is: a document with questions, and something that makes such samples.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kvasir::tasks {

class Haystack;

struct Turn {
  std::string question;
  // The references. The first is the golden one; whether one of them or all are asked for is the
  // scorer's rule.
  std::vector<std::string> answers;
  std::vector<std::string> options;  // of multiple choice, in order; otherwise empty
  std::string task;                  // of this turn, where a sample mixes tasks; otherwise empty
  std::string name;                  // of the function that is asked for (code retrieval)
  std::string golden_text;           // see golden()
  std::string answer_prefix;         // stands at the head of the assistant's turn; often empty
  bool is_integer = false;           // the answer is stored as a number

  // What stands as the assistant's answer when the conversation goes on.
  const std::string& golden() const { return golden_text.empty() ? answers.front() : golden_text; }
};

// A function of a repository, or a block of text: what an answer must be nearest to.
struct Function {
  std::string text, name;
};

struct Sample {
  std::string id;
  std::string task;
  std::string context;  // UTF-8; the system message, or the first part of the user's
  std::vector<Turn> turns;
  std::string language, repository;     // code retrieval
  std::vector<Function> functions;      // code retrieval: all that answers are compared with
  std::map<std::string, double> facts;  // for reports: "depth.0", "hops.0" (of turn 0), ...
};

// Number of tokens of a text, without special tokens.
using CountTokens = std::function<int64_t(std::string_view)>;

// Which keys (words, hexadecimal keys, names of variables) samples are made of. The two never
// overlap: a key belongs to one by its hash (see key_space() in keys.h).
enum class KeySpace : uint8_t { kTraining, kEvaluation };

struct GeneratorOptions {
  // A sample has at most so many tokens: context, questions and golden answers, each counted on
  // its own, with `turn_overhead` for each turn and `sample_overhead` once (chat markers). It has
  // at most 2 % or one entry of the document fewer.
  int64_t target_tokens = 4096;
  CountTokens count;
  int64_t turn_overhead = 3, sample_overhead = 2;
  int turns = 1;
  const Haystack* haystack = nullptr;  // must outlive the generator; needed by tasks in books
  KeySpace key_space = KeySpace::kEvaluation;
  int phrasing = 0;              // of questions: 0, 1 to 5 (evaluation only), kTrainingPhrasings
  bool question_inside = false;  // the questions also stand at the end of the context
  int hops = 0;                  // of variables: 1 to 4; 0: each as often
  double depth = -1;             // of what is asked for, 0 to 1; negative: anywhere
};

// Immutable and thread-safe.
class Generator {
 public:
  virtual ~Generator() = default;
  // A pure function of the options, `seed` and `index`. Errors: kResourceExhausted where the
  // target has no room for a sample.
  virtual Result<Sample> sample(uint64_t seed, uint64_t index) const = 0;
};

// Tokens of a sample as `options` count them.
int64_t count_tokens(const Sample& sample, const GeneratorOptions& options);

}  // namespace kvasir::tasks
