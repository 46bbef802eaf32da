#pragma once
// What one run of a long-context benchmark is asked for.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "eval/outcome.h"
#include "kvasir/engine.h"

namespace kvasir::eval {

// What stands in a conversation as the answer to an earlier question.
enum class Answers : uint8_t {
  kGolden,     // the reference: questions are the same for every method
  kGenerated,  // what the model said
};

// Whether a session's questions find the KV of what they have in common.
enum class Loading : uint8_t {
  kResident,   // it stays in memory from question to question
  kRecompute,  // every question computes its whole prompt
};
const char* loading_name(Loading loading);  // "resident", "recompute"

inline constexpr const char* kPerplexity = "perplexity";  // beside the suites of tasks

struct RunOptions {
  std::string suite;     // of tasks::suites(), or kPerplexity
  EngineOptions engine;  // context: 0 = as much as is of use and fits

  // Empty: the suite's own.
  std::vector<std::string> tasks;
  std::vector<int64_t> lengths;  // tokens of a session; of published files: at most so many
  std::vector<Mode> modes;
  int64_t sessions = 0;  // of each task and length (needle: and depth)
  int64_t turns = 0;     // questions of a session, at most
  int64_t depths = 0;    // of a needle, evenly spread

  // Beside dense, plain, dense and resident; all that go together are combined. Values written
  // "n/8" are that part of the session's length.
  std::vector<MethodChoice> prefill, compress, retrieve;
  std::vector<Loading> loading;

  Answers answers = Answers::kGolden;
  uint64_t seed = 0;
  bool question_inside = false;       // tasks: the questions also stand in the document
  std::filesystem::path data_folder;  // published files
  std::filesystem::path documents;    // a text or a folder of texts; empty: made-up prose for tasks
  std::filesystem::path prompt_templates;  // empty: the product's own prompts

  std::filesystem::path out;  // folder of outcomes.jsonl and run.json
  bool resume = false;        // go on with what is there
};

// What a suite has where nothing was asked for.
struct SuiteDefaults {
  std::vector<int64_t> lengths;
  std::vector<Mode> modes;
  int64_t sessions, turns;
};
SuiteDefaults suite_defaults(std::string_view suite);

}  // namespace kvasir::eval
