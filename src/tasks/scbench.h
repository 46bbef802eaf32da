#pragma once
// SCBench (arXiv 2412.10319): twelve tasks with several questions about one document. Published
// files where a user has them (session_file.h); generators for the tasks that are synthetic.

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tasks/task.h"

namespace kvasir::tasks {

struct ScbenchTask {
  std::string_view config;  // "scbench_kv": the name in published files
  std::string_view name;    // "Retr.KV"
  std::string_view ability;
  std::string_view scorer;
  int new_tokens;     // most of an answer
  bool is_synthetic;  // make_scbench() makes it
};

std::span<const ScbenchTask> scbench_tasks();
const ScbenchTask* find_scbench(std::string_view config);

// The scorer and the most new tokens of a turn: those of the turn's own task in mixes.
std::string_view scbench_scorer(const Sample& sample, const Turn& turn);
int scbench_new_tokens(const Sample& sample, const Turn& turn);

// Prompts, without any chat template. Blocks are separated by an empty line.
struct ScbenchPrompt {
  std::string before;               // instruction and document, for every question the same
  std::vector<std::string> turns;   // what is appended to it: of multi-request, and of turn 1
  std::vector<std::string> follow;  // user messages of later turns; follow[0] is not used
};
ScbenchPrompt scbench_prompt(const Sample& sample);

// What a question asks for: "The largest number of the list is:" gives "the largest number of the
// list". The first match of `The .+ is`, as long as its line allows, without "is"; may be empty.
std::string scbench_target(std::string_view input);

// scbench_kv, scbench_prefix_suffix, scbench_vt, scbench_mf, scbench_many_shot. Errors: kNotFound
// (no such task), kUnsupported (needs the published file), kInvalidArgument.
Result<std::unique_ptr<Generator>> make_scbench(std::string_view config, GeneratorOptions options);

}  // namespace kvasir::tasks
