#pragma once
// `kvasir search auto`: how fast methods read prompts of several lengths on this device, and
// whether answers stay what they are, for `--prefill auto`.

#include <string>
#include <vector>

#include "prefill/auto_table.h"
#include "search/search.h"

namespace kvasir::search {

struct AutoSearch {
  std::string document;               // where questions are hidden in; UTF-8
  std::vector<MethodChoice> methods;  // beside dense; empty: those of default_auto_methods()
  std::vector<std::string> tasks;     // of the suite "tasks"; empty: needle and var
  // Of prompts, in tokens; empty: 4096, 8192, ... and the longest that the engine is planned for.
  std::vector<int64_t> lengths;
  int documents = 2;             // of each length and task; each is asked four questions
  std::filesystem::path output;  // of the measurements; other devices' there are kept
  Watch watch;
};

// All that may win on this device: static ones, and those that plan from queries.
std::vector<MethodChoice> default_auto_methods(const ModelInfo& info);

// The device's measurements, which are then in the file. Throws as Engine::load does;
// kInvalidArgument for lengths that the model does not have; kNotFound for unknown tasks.
prefill::AutoDevice search_auto(const EngineOptions& engine, const AutoSearch& options);

// KL(p || q) in nats of two tokens' distributions as far as their likeliest tokens say: of each
// token that p lists, and of all the others together; what q does not list has the least
// probability that it lists. Never more than the true one but for that.
double listed_divergence(const std::vector<TokenLogprob>& p, const std::vector<TokenLogprob>& q);

}  // namespace kvasir::search
