// Any bytes as a file of outcomes: what is read is written and read again as the same.

#include "eval/outcome_file.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace kvasir::eval;
  using kvasir::fuzz::check;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto file = parse_outcomes(text, "fuzz");
  if (!file) {
    check(!file.error().message().empty(), "an error says what is wrong");
    return 0;
  }
  check(file.value().whole_bytes <= static_cast<int64_t>(size), "lines lie within the file");
  check(file.value().notice.empty() == (file.value().whole_bytes == static_cast<int64_t>(size)),
        "a notice says what was dropped");
  for (const Outcome& outcome : file.value().outcomes) {
    const std::string line = to_json_line(outcome);
    const auto again = outcome_from_json(line);
    check(again.ok(), "what is written can be read");
    check(to_json_line(again.value()) == line, "as the same");
    check(question_id(again.value()) == question_id(outcome), "of the same question");
  }
  return 0;
}
