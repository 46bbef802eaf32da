// Any bytes as a file of sessions, whose text also goes through the scorers: what is read is
// written and read again as the same.

#include "fuzz.h"
#include "tasks/score.h"
#include "tasks/session_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvasir::tasks;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto read = parse_sessions(text, "fuzz", "scbench_repoqa");
  if (!read) {
    kvasir::fuzz::check(!read.error().message().empty(), "an error says what is wrong");
    return 0;
  }
  for (const Sample& sample : read.value()) {
    const auto again = parse_sessions(session_line(sample), "fuzz", "scbench_repoqa");
    kvasir::fuzz::check(again.ok() && again.value().size() == 1, "what is written can be read");
    kvasir::fuzz::check(session_line(again.value()[0]) == session_line(sample), "as the same");
  }
  const Turn& turn = read.value().front().turns.front();
  for (const Scorer& scorer : scorers())
    for (const Scoring scoring : {Scoring::kReference, Scoring::kStrict}) {
      const auto scored = scorer.score({.prediction = text.substr(0, 256),
                                        .turn = turn,
                                        .scoring = scoring,
                                        .functions = read.value().front().functions});
      kvasir::fuzz::check(!scored || (scored.value() >= 0 && scored.value() <= 1 + 1e-9),
                          "scores lie between 0 and 1");
    }
  return 0;
}
