#pragma once
// --batch: many requests from a file of JSON lines, run side by side, printed in order.

#include <optional>
#include <string>
#include <vector>

#include "cli/conversation.h"

namespace kvasir::cli {

struct BatchLine {
  int64_t line = 0;                          // in the file, from 1
  std::string id_json;                       // the "id" as it was written, or empty
  std::vector<std::string> documents;        // paths
  std::optional<std::string> document_text;  // instead of paths
  std::optional<std::string> ask, prompt;    // one of these
  std::vector<ChatMessage> messages;         // or these
  GenerationOptions generation;
};

// Every line is read before anything runs. Keys: id; document (path or list of paths) or
// document_text; ask, prompt or messages; max_tokens, samples, logprobs, stop, stop_tokens,
// ignore_end, the sampling options, prefill, compress, retrieve. Throws Error{kMalformed} with the
// line's number.
std::vector<BatchLine> parse_batch(const std::string& text, const std::string& where,
                                   const GenerationOptions& defaults);

// Lines without a document of their own get `document`. A request that fails gives a line
// {"id": ..., "error": ...}; the others go on, and the exit code is that of the first failure.
int run_batch(Engine& engine, const Options& options, const std::vector<BatchLine>& lines,
              const std::string& document, Environment& environment);

}  // namespace kvasir::cli
