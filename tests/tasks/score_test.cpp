#include "tasks/score.h"

#include <gtest/gtest.h>

namespace kvasir::tasks {
namespace {

double scored_turn(std::string_view name, std::string_view prediction, const Turn& turn,
                   Scoring scoring = Scoring::kReference) {
  return score(name, {.prediction = prediction, .turn = turn, .scoring = scoring}).value();
}

double scored(std::string_view name, std::string_view prediction, std::vector<std::string> answers,
              Scoring scoring = Scoring::kReference) {
  return scored_turn(name, prediction, Turn{.answers = std::move(answers)}, scoring);
}

constexpr Scoring kStrict = Scoring::kStrict;

TEST(Score, F1OfWordsAndCharacters) {
  EXPECT_NEAR(token_f1("The answer is: Paris, France.", "Paris"), 0.4, 1e-9);
  EXPECT_NEAR(token_f1("It's a well-known re-use", "its wellknown reuse"), 1, 1e-9);
  EXPECT_NEAR(token_f1("42 apples", "forty two apples"), 0.4, 1e-9);
  EXPECT_NEAR(scored("qa_chn", "他住在北京。", {"北京"}, kStrict), 0.571429, 1e-6);
  EXPECT_NEAR(scored("qa_chn", "他住在北京。", {"北京"}), 0.333333, 1e-6);
}

TEST(Score, SimilarityOfCode) {
  const std::string reference = "def add(a, b):\n    return a + b";
  EXPECT_NEAR(code_similarity(reference, reference), 1, 1e-9);
  const std::pair<std::string, double> goldens[] = {
      {"def add(a, b):\n    return b + a", 0.472871},
      {"def add(x, y):\n    return x + y", 0.042587},
      {"return a + b", 0.472367},
      {"x", 0},
      {"", 0},
      {"# sum\n" + reference, 0.72598},
      {"def add(a, b):\n    # sum\n    return a + b", 0.43167},
      {"return", 0.002479}};
  for (const auto& [candidate, expected] : goldens)
    EXPECT_NEAR(code_similarity(candidate, reference), expected, 1e-6) << candidate;
}

TEST(Score, RougeLsum) {
  EXPECT_NEAR(rouge_lsum("It was a happy cat.\nThe mat.", "The cat sat on the mat.\nIt was happy."),
              0.75, 1e-6);
  EXPECT_NEAR(rouge_lsum("the brown quick fox", "the quick brown fox jumps"), 0.666667, 1e-6);
  EXPECT_NEAR(rouge_lsum("police kill the gunman", "police killed the gunman"), 0.75, 1e-6);
  EXPECT_EQ(rouge_lsum("北京", "北京"), 0);
}

TEST(Score, Variables) {
  EXPECT_EQ(scored("variables", "aaaaa and BBBBB", {"AAAAA", "BBBBB", "CCCCC"}), 0.67);
  EXPECT_NEAR(scored("variables", "aaaaa and BBBBB", {"AAAAA", "BBBBB", "CCCCC"}, kStrict), 2. / 3,
              1e-12);
}

TEST(Score, Choice) {
  const Turn b{.answers = {"x"}, .options = {"w", "x", "y", "z"}};
  const Turn c{.answers = {"x"}, .options = {"w", "y", "x", "z"}};
  EXPECT_EQ(scored_turn("choice", "B", b), 1);
  EXPECT_EQ(scored_turn("choice", "Because of C", b), 1);
  EXPECT_EQ(scored_turn("choice", "Because of C", b, kStrict), 0);
  EXPECT_EQ(scored_turn("choice", "The answer is: C.", c), 1);
  EXPECT_EQ(scored_turn("choice", "answer is", c), 0);
  EXPECT_EQ(scored_turn("choice", "it is ABC", b), 0);
  EXPECT_EQ(scored_turn("choice", "", b), 0);
  EXPECT_EQ(scored_turn("choice", "x", b), 1);
}

TEST(Score, Numbers) {
  EXPECT_EQ(scored("math_find", "is 12.9", {"12"}), 1);
  EXPECT_EQ(scored("math_find", "-5", {"5"}), 1);
  EXPECT_EQ(scored("math_find", "-5", {"5"}, kStrict), 0);
  EXPECT_EQ(scored("math_find", "1,234", {"1"}), 1);
  EXPECT_EQ(scored("math_find", "1.5", {"1.5"}), 1);
  EXPECT_EQ(scored("math_find", "none", {"1"}), 0);
  EXPECT_EQ(scored("passkey", "key 0123, not 99", {"0123"}), 1);
  const Turn integer{.answers = {"123"}, .is_integer = true};
  EXPECT_EQ(scored_turn("passkey", "key 123", integer), 0);
  EXPECT_EQ(scored_turn("passkey", "key 123", integer, kStrict), 1);
}

TEST(Score, ManyShotAndContainment) {
  EXPECT_EQ(scored("many_shot", "(Q)", {"(B)"}), 1);
  EXPECT_EQ(scored("many_shot", "(Q)", {"(B)"}, kStrict), 0);
  EXPECT_EQ(scored("many_shot", "it is (b).", {"(B)"}, kStrict), 1);
  EXPECT_EQ(scored("contains", "x abc y", {"abc"}), 1);
  EXPECT_EQ(scored("contains", "x ABC y", {"abc"}), 0);
  EXPECT_EQ(scored("qa_eng", " ärger ", {"ÄRGER"}), 1);
  EXPECT_EQ(scored("exact", " 123\n", {"123"}), 1);
  EXPECT_EQ(scored("exact", "1234", {"123"}), 0);
  EXPECT_EQ(scored("ruler_all", "one, TWO", {"one", "two", "three", "four"}), 0.5);
  EXPECT_EQ(scored("ruler_part", "one, TWO", {"two", "three"}), 1);
}

TEST(Score, Repository) {
  const Function functions[] = {{"def add(a, b):\n    return a + b", "add"},
                                {"def sub(a, b):\n    return a - b", "sub"}};
  const Turn turn{.answers = {functions[0].text}, .name = "add"};
  const auto of = [&](std::string_view prediction) {
    return score("repoqa", {.prediction = prediction, .turn = turn, .functions = functions})
        .value();
  };
  EXPECT_EQ(of("Here:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."), 1);
  EXPECT_EQ(of(functions[1].text), 0);
  EXPECT_EQ(of("return a + b"), 0);
  EXPECT_EQ(of(""), 0);
}

TEST(Score, SaysWhatIsMissing) {
  const auto none = score("contains", {.prediction = "x", .turn = Turn{.question = "Who?"}});
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message().find("no reference"), std::string::npos);
  EXPECT_NE(none.error().message().find("Who?"), std::string::npos);
  const auto unknown = score("nosuch", {.prediction = "x", .turn = Turn{.answers = {"x"}}});
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message().find("math_find"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::tasks
