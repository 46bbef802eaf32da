#pragma once
// The command line as one struct: defaults, then flags. What the model folder decides (sampling
// defaults) stays empty here and is filled in when the model is known.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/options.h"
#include "kvasir/engine.h"

namespace kvasir::cli {

enum class Command { kRun, kScore, kPlan, kInfo, kTokenize, kMethods, kBench, kTrain, kCompletion };

// What one request may set; flags set it for all, a line of --batch for itself.
struct GenerationOptions {
  std::optional<double> temperature, top_p, min_p;
  std::optional<double> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
  int64_t max_tokens = 256;
  int samples = 1;
  std::optional<int> logprobs;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;
  bool ignore_end = false;
  StageChoice stages;

  // The model's defaults with what was set laid over them.
  SamplingOptions sampling(SamplingOptions defaults) const;
  // A request for `prompt` with all of this.
  Request request(std::vector<TokenId> prompt, const SamplingOptions& defaults) const;
};

struct RunOptions {
  std::vector<std::string> documents;  // paths or "-"
  std::string document_role = "system";
  std::vector<std::string> questions;
  bool as_requests = false;
  std::optional<std::string> prompt, chat, batch;
  std::string fit = "error";
  GenerationOptions generation;
};

struct ScoreCommandOptions {
  std::string file;
  std::optional<std::string> ids;
  StageChoice stages;
  std::optional<StageChoice> against;
  std::string against_text;
  std::optional<std::string> dump_logits;
};

struct PlanOptions {
  std::string document, out;
  MethodChoice prefill{"dense", {}};
  std::optional<int> layer, head;  // both or neither: one head alone
};

struct TokenizeOptions {
  std::string file;
  bool no_special = false, decode = false;
};

struct BenchFlags {
  std::string what, shape, document, record;
  std::vector<int64_t> lengths;
  int repetitions = 5;
  eval::RunOptions accuracy;  // but for its lengths, documents and engine
  int64_t questions = 0;      // instead of accuracy.sessions
};
// What `kvasir bench` measures: speed, in the bench room, and accuracy, in the eval room.
inline constexpr const char* kBenchSpeed = "prefill|decode|train|tokenizer|load";
inline constexpr const char* kBenchAccuracy = "tasks|tiny|ruler|scbench|needle|perplexity";

struct TrainFlags {
  std::string what;  // a word of kTrainWhat
  std::filesystem::path recipe, corpus, output;
  bool resume = false;
  int processes = 1;
  std::optional<int> rank;  // none: this program starts all processes
  std::string meeting;
};
inline constexpr const char* kTrainWhat = "run|tokenizer|data|manifest";

struct Options {
  Command command = Command::kRun;
  EngineOptions engine;  // model, device, dtype, threads, context, chunk, max_sequences, ...
  bool json = false;
  bool dry_run = false;
  RunOptions run;
  ScoreCommandOptions score;
  PlanOptions plan;
  int64_t sequences = 1;  // info
  TokenizeOptions tokenize;
  BenchFlags bench;
  TrainFlags train;
};

// What parsing gives: options, or text to print on standard output (--help, --version, a
// completion script) and nothing else to do.
struct Parsed {
  Options options;
  std::optional<std::string> text;
};

// `arguments` without the program's name. Throws Error{kInvalidArgument}. `width` is for --help.
Parsed parse_arguments(std::span<const std::string> arguments, int width = 80);

// "NAME" or "NAME:key=value,key=value". `what` names the option in errors.
MethodChoice parse_method(std::string_view text, std::string_view what);
// "prefill=NAME:key=value;retrieve=NAME": stages apart by semicolons, so that commas stay with the
// method. Stages that are not named keep their defaults.
StageChoice parse_stages(std::string_view text, std::string_view what);

// Whole numbers and decimals with a range. Throw Error{kInvalidArgument, ..., what}.
int64_t parse_integer(std::string_view text, std::string_view what, int64_t least, int64_t most);
double parse_number(std::string_view text, std::string_view what);

}  // namespace kvasir::cli
