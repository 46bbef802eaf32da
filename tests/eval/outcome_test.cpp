// Lines of outcomes, and files of them.

#include "eval/outcome.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "eval/made_outcomes.h"
#include "eval/outcome_file.h"

namespace kvasir::eval {
namespace {

Outcome whole() {
  return {.suite = "tiny",
          .task = "kv",
          .length = 4096,
          .session = 7,
          .turn = 2,
          .depth = 1.0 / 3,
          .mode = Mode::kMultiRequest,
          .prefill = "a_shape:local=512",
          .answer = "line\n\"quoted\" \xC3\xA9",
          .reference = "r",
          .score = 0.1 + 0.2,
          .published = 1,
          .error = "why",
          .prompt_tokens = 4100,
          .cached_tokens = 64,
          .completion_tokens = 9,
          .ttft_seconds = 1e-7 / 3,
          .decode_seconds = 2.0 / 7,
          .computed_fraction = 0.123456789012345678,
          .kv_bytes = int64_t{1} << 40};
}

TEST(OutcomeLine, RoundTripsToTheBit) {
  const std::string line = to_json_line(whole());
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const Outcome again = outcome_from_json(line).value();
  EXPECT_EQ(to_json_line(again), line);
  EXPECT_EQ(again.depth, 1.0 / 3);
  EXPECT_EQ(again.score, 0.1 + 0.2);
  EXPECT_EQ(again.ttft_seconds, 1e-7 / 3);
  EXPECT_EQ(again.decode_seconds, 2.0 / 7);
  EXPECT_EQ(again.answer, whole().answer);
  EXPECT_EQ(again.mode, Mode::kMultiRequest);
  EXPECT_EQ(again.kv_bytes, int64_t{1} << 40);
}

TEST(OutcomeLine, EveryFieldIsNeededAndNamed) {
  const auto json = nlohmann::json::parse(to_json_line(whole()));
  EXPECT_EQ(json.size(), 23u);
  for (const auto& [name, value] : json.items()) {
    auto missing = json;
    missing.erase(name);
    const auto found = outcome_from_json(missing.dump());
    ASSERT_FALSE(found.ok()) << name;
    EXPECT_EQ(found.error().code(), ErrorCode::kMalformed);
    EXPECT_NE(found.error().message().find(name), std::string::npos) << found.error().what();
    for (const nlohmann::json& wrong : {nlohmann::json(nullptr), nlohmann::json::array()}) {
      auto other = json;
      other[name] = wrong;
      EXPECT_FALSE(outcome_from_json(other.dump()).ok()) << name << " " << wrong;
    }
  }
  auto more = json;
  more["scoer"] = 1;
  EXPECT_NE(outcome_from_json(more.dump()).error().message().find("unknown field 'scoer'"),
            std::string::npos);
  for (const char* line : {"", "[]", "1", "{", "{}"}) EXPECT_FALSE(outcome_from_json(line).ok());
}

TEST(OutcomeLine, RefusesNumbersOutOfRange) {
  Outcome outcome = whole();
  outcome.score = std::nan("");
  EXPECT_THROW(to_json_line(outcome), Error);
  auto json = nlohmann::json::parse(to_json_line(whole()));
  json["depth"] = -0.5;
  EXPECT_FALSE(outcome_from_json(json.dump()).ok());
}

TEST(OutcomeFile, ATornLastLineIsDroppedWithANotice) {
  const std::vector<Outcome> outcomes = made_outcomes({.sessions = 3}, 1);
  std::string text;
  for (const Outcome& outcome : outcomes) text += to_json_line(outcome) + "\n";
  const size_t second = text.rfind('\n', text.size() - 2) + 1;
  EXPECT_EQ(parse_outcomes(text, "f").value().notice, "");
  for (size_t end = second + 1; end < text.size(); ++end) {
    const OutcomeFile file = parse_outcomes(text.substr(0, end), "f").value();
    ASSERT_EQ(file.outcomes.size(), 2u);
    EXPECT_EQ(file.whole_bytes, static_cast<int64_t>(second));
    EXPECT_NE(file.notice.find("f: dropped line 3"), std::string::npos);
  }
}

TEST(OutcomeFile, AnyOtherBadLineIsAnErrorWithItsNumber) {
  const std::string line = to_json_line(whole()) + "\n";
  for (const std::string bad : {"\n", "{\n", "x\n"}) {
    const auto found = parse_outcomes(line + bad, "f");
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.error().context(), "f, line 2");
  }
  EXPECT_NE(parse_outcomes(line + line, "f").error().message().find("that of line 1 again"),
            std::string::npos);
  EXPECT_EQ(read_outcomes("/nowhere/at/all").error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace kvasir::eval
