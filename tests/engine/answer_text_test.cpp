#include "engine/answer_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engine/fake_model.h"

namespace kvasir::engine {
namespace {

std::vector<std::string> push_all(StopMatcher& matcher, const std::vector<std::string>& pieces) {
  std::vector<std::string> out;
  for (const std::string& piece : pieces) out.push_back(matcher.push(piece));
  return out;
}

using Pieces = std::vector<std::string>;

TEST(StopMatcher, WithoutStopsNothingIsHeldBack) {
  StopMatcher matcher({});
  EXPECT_EQ(push_all(matcher, {"a", "", "bc"}), (Pieces{"a", "", "bc"}));
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, SpansPieces) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(push_all(matcher, {"Yes.\n", "\nUs", "er: more"}), (Pieces{"Yes.", "", ""}));
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("anything"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, FalseStartsAreLetGo) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(push_all(matcher, {"a", "a", "a", "c", "xa"}), (Pieces{"", "", "a", "aac", "x"}));
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.finish(), "a");
}

TEST(StopMatcher, FirstCompleteOneWins) {
  StopMatcher early({"abc", "b"});
  EXPECT_EQ(early.push("xabc"), "xa") << "b is complete before abc";
  EXPECT_TRUE(early.stopped());
  StopMatcher longest({"c", "abc"});
  EXPECT_EQ(longest.push("xabc"), "x") << "both end at one place";
  StopMatcher within({"xay", "a"});
  EXPECT_EQ(within.push("xa"), "x");
}

// However the text is cut, what comes out is the text up to the first stop string that is
// complete, and never anything that has to be taken back.
TEST(StopMatcher, DoesNotDependOnThePieces) {
  std::mt19937_64 random(20260104);
  RecordProperty("seed", 20260104);
  const auto letters = [&](size_t most) {
    std::string text(random() % (most + 1), 'a');
    for (char& letter : text) letter = static_cast<char>('a' + random() % 2);
    return text;
  };
  int stopped = 0;
  for (int i = 0; i < 20000; ++i) {
    Pieces stops(1 + random() % 3);
    for (std::string& stop : stops) stop = letters(5) + "a";
    const std::string text = letters(25);
    std::string expected = text;
    bool expected_stop = false;
    for (size_t end = 1; end <= text.size() && !expected_stop; ++end)
      for (size_t first = 0; first < end && !expected_stop; ++first)
        if (std::ranges::count(stops, text.substr(first, end - first))) {
          expected = text.substr(0, first);
          expected_stop = true;
        }
    StopMatcher matcher(stops);
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 4;
      out += matcher.push(text.substr(at, size));
      ASSERT_TRUE(expected.starts_with(out)) << text;
      at += size;
    }
    out += matcher.finish();
    ASSERT_EQ(out, expected) << text;
    ASSERT_EQ(matcher.stopped(), expected_stop) << text;
    stopped += expected_stop;
  }
  EXPECT_GT(stopped, 5000);
  EXPECT_LT(stopped, 19500);
}

TEST(AnswerText, LastBytesMayCompleteAStop) {
  // Token 3 (text "ba") holds its text back until the next one or the end.
  AnswerText text(std::make_unique<fake::FakeDetokenizer>(), {"bba"});
  EXPECT_EQ(text.push(0), "a");
  EXPECT_EQ(text.push(1), "");
  EXPECT_EQ(text.push(3), "");
  EXPECT_FALSE(text.stopped());
  EXPECT_EQ(text.finish(), "");
  EXPECT_TRUE(text.stopped());
}

}  // namespace
}  // namespace kvasir::engine
