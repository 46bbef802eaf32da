#pragma once
// The objects that --json prints, one a line.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/answers.h"
#include "kvasir/engine.h"

namespace kvasir::cli {

using Json = nlohmann::ordered_json;

// One line with its newline. Invalid UTF-8 becomes replacement characters.
std::string json_line(const Json& object);

// {"code": ..., "message": ..., "context": ...}
Json error_json(const Error& error);

struct AnswerJson {
  const SampleResult& result;
  double load_seconds = 0;
  std::optional<int> sample;  // where several were asked for
  bool logprobs = false;
};
Json answer_json(const AnswerJson& answer);

Json plan_json(const MemoryPlan& plan);
Json sampling_json(const SamplingOptions& sampling);

// "cpu (Intel Xeon ...)".
std::string device_text(const ModelInfo& info);

// The lines of the memory plan for people.
std::vector<std::pair<std::string, std::string>> plan_pairs(const MemoryPlan& plan);

}  // namespace kvasir::cli
