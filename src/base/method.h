#pragma once
// How a method of any stage describes itself: name, options and capabilities. Each stage's room
// keeps a table of these; what is not in a table cannot be asked for, and what is not claimed is
// refused.

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "kvasir/request.h"

namespace kvasir {

// What a method works together with. Claimed only where a test runs it.
struct MethodCapabilities {
  bool chunked_prefill = false;  // prompts cut into chunks
  bool prefix_reuse = false;     // KV taken over from an earlier request, forks
  bool batching = false;         // several sequences in one step
  bool quantised_kv = false;     // KV in another form than the plain one
  bool evicted_kv = false;       // KV of which entries have been dropped
  bool deterministic = false;    // answers do not depend on what ran before or beside them
  bool cuda_graphs = false;
  bool gpu = false;  // --device cuda
  bool several_gpus = false;
  bool images = false;  // prompts of several modalities
};

// An option written as key=value behind the method's name.
struct MethodOption {
  std::string_view name;
  std::string_view description;
  // Refuses a value outside its range, saying what was expected.
  Result<void> (*check)(std::string_view value);
};

struct Method {
  std::string_view name;
  std::string_view description;  // half a sentence
  MethodCapabilities capabilities;
  std::span<const MethodOption> options;
  // "key=value,key=value" that bench runs it with where nobody says, so that it does what it does
  // at any length: "n/8" is an eighth of it. Empty: the method's defaults do.
  std::string_view scaled = {};
};

// "NAME" or "NAME:key=value,key=value", as it is written on the command line.
std::string method_text(const MethodChoice& choice);

// The row called `name`, or null.
const Method* find_method(std::span<const Method> table, std::string_view name);

// `options` are known to the method and in range. `stage` is for the message: "prefill".
Result<void> check_method_options(const Method& method, std::string_view stage,
                                  const std::map<std::string, std::string>& options);

}  // namespace kvasir
