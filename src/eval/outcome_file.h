#pragma once
// The outcomes of a run, as they lie on disk: a line a question, in the order of the answers.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "eval/outcome.h"

namespace kvasir::eval {

inline constexpr const char* kOutcomesFile = "outcomes.jsonl";

struct OutcomeFile {
  std::vector<Outcome> outcomes;
  // Of the file, up to the end of its last whole line: where a run that goes on writes.
  int64_t whole_bytes = 0;
  // Says that the beginning of a line was dropped, which a run that was killed leaves at the end;
  // otherwise empty.
  std::string notice;
};

// `path`: a file of outcomes, or a folder with `outcomes.jsonl`. A last line without its newline is
// dropped with a notice. Errors: kNotFound; kIo; kMalformed with the number of any other line that
// is no outcome, or that answers a question again that the same methods have answered.
Result<OutcomeFile> read_outcomes(const std::filesystem::path& path);
Result<OutcomeFile> parse_outcomes(std::string_view text, std::string_view origin);

}  // namespace kvasir::eval
