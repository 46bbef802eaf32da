#include "text/pre_tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <iterator>
#include <random>

#include "text/parts.h"
#include "text/unicode.h"

namespace kvasir::text {
namespace {

using Words = std::vector<std::string>;

std::string split_json(std::string_view behavior, bool invert = false) {
  return fmt::format(
      R"({{"type": "Split", "pattern": {{"String": "-"}}, "behavior": "{}", "invert": {}}})",
      behavior, invert);
}

TEST(PreTokenizer, NullIsOneWord) {
  EXPECT_EQ(words("null", "a b"), (Words{"a b"}));
  EXPECT_EQ(words("null", ""), Words{});
}

// The example of the package's documentation of SplitDelimiterBehavior.
TEST(PreTokenizer, SplitBehaviors) {
  const std::string text = "the-final--countdown";
  EXPECT_EQ(words(split_json("Removed"), text), (Words{"the", "final", "countdown"}));
  EXPECT_EQ(words(split_json("Isolated"), text),
            (Words{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(words(split_json("MergedWithPrevious"), text),
            (Words{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(words(split_json("MergedWithNext"), text), (Words{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(words(split_json("Contiguous"), text), (Words{"the", "-", "final", "--", "countdown"}));
  EXPECT_EQ(words(split_json("Removed", true), text), (Words{"-", "-", "-"}));
}

TEST(PreTokenizer, ByteLevel) {
  const auto json = [](bool prefix, bool regex) {
    return fmt::format(
        R"({{"type": "ByteLevel", "add_prefix_space": {}, "trim_offsets": true, "use_regex": {}}})",
        prefix, regex);
  };
  // At the end of the chain words stay raw bytes.
  EXPECT_EQ(words(json(false, true), "I'll  go 12\n\né"),
            (Words{"I", "'ll", " ", " go", " 12", "\n", "\n", "é"}));
  EXPECT_EQ(words(json(true, true), "a"), (Words{" a"}));
  EXPECT_EQ(words(json(true, true), " a"), (Words{" a"}));
  EXPECT_EQ(words(json(true, false), "a b"), (Words{" a b"}));
  EXPECT_TRUE(parse_part<PreTokenizer>(json(false, true)).take_byte_level());
}

TEST(PreTokenizer, ByteLevelInTheMiddleWritesCharacters) {
  const char* json = R"({"type": "Sequence", "pretokenizers": [
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
      {"type": "Split", "pattern": {"String": "Ġ"}, "behavior": "MergedWithNext", "invert": false}]})";
  EXPECT_EQ(words(json, "a é"), (Words{"a", "ĠÃ©"}));
  EXPECT_FALSE(parse_part<PreTokenizer>(json).take_byte_level());
}

TEST(PreTokenizer, Digits) {
  EXPECT_EQ(words(R"({"type": "Digits", "individual_digits": true})", "a12½"),
            (Words{"a", "1", "2", "½"}));
  EXPECT_EQ(words(R"({"type": "Digits", "individual_digits": false})", "a12½b"),
            (Words{"a", "12½", "b"}));
}

TEST(PreTokenizer, Punctuation) {
  EXPECT_EQ(words(R"({"type": "Punctuation"})", "a,+«b"), (Words{"a", ",", "+", "«", "b"}));
  EXPECT_EQ(words(R"({"type": "Punctuation", "behavior": "Contiguous"})", "a,+«b"),
            (Words{"a", ",+«", "b"}));
}

TEST(PreTokenizer, Whitespace) {
  EXPECT_EQ(words(R"({"type": "Whitespace"})", " it's  é\u0301, ok"),
            (Words{"it", "'", "s", "é\u0301", ",", "ok"}));
  EXPECT_EQ(words(R"({"type": "WhitespaceSplit"})", " it's \u00a0 é, "), (Words{"it's", "é,"}));
}

TEST(PreTokenizer, Metaspace) {
  const auto json = [](std::string_view scheme, bool split) {
    return fmt::format(
        R"({{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "{}", "split": {}}})",
        scheme, split);
  };
  EXPECT_EQ(words(json("always", true), "a  b"), (Words{"▁a", "▁", "▁b"}));
  EXPECT_EQ(words(json("always", true), " a"), (Words{"▁a"}));
  EXPECT_EQ(words(json("never", true), "a b"), (Words{"a", "▁b"}));
  EXPECT_EQ(words(json("never", false), "a b"), (Words{"a▁b"}));
  EXPECT_EQ(words(json("first", false), "a b"), (Words{"▁a▁b"}));
  EXPECT_EQ(words(json("first", false), "a b", false), (Words{"a▁b"}));  // behind an added token
}

TEST(PreTokenizer, MetaspaceOfOldFiles) {
  EXPECT_EQ(words(R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": true})", "a b"),
            (Words{"_a", "_b"}));
  EXPECT_EQ(words(R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false})", "a b"),
            (Words{"a", "_b"}));
}

TEST(PreTokenizer, SequenceSplitsEachPart) {
  const char* json = R"({"type": "Sequence", "pretokenizers": [
      {"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": true}]})";
  EXPECT_EQ(words(json, "a1 22"), (Words{"a", "1", "2", "2"}));
}

TEST(PreTokenizer, Bert) {
  EXPECT_EQ(words(R"({"type": "BertPreTokenizer"})", "Hey friend!  How's$it「x」"),
            (Words{"Hey", "friend", "!", "How", "'", "s", "$", "it", "「", "x", "」"}));
}

TEST(PreTokenizer, CharDelimiterSplit) {
  EXPECT_EQ(words(R"({"type": "CharDelimiterSplit", "delimiter": "é"})", "aéébéc d"),
            (Words{"a", "b", "c d"}));
}

TEST(PreTokenizer, FixedLength) {
  EXPECT_EQ(words(R"({"type": "FixedLength", "length": 2})", "aéb漢c"), (Words{"aé", "b漢", "c"}));
  EXPECT_EQ(words(R"({"type": "FixedLength"})", "abcdefg"), (Words{"abcde", "fg"}));
}

TEST(PreTokenizer, UnicodeScripts) {
  constexpr const char* kJson = R"({"type": "UnicodeScripts"})";
  EXPECT_EQ(words(kJson, "どこで生れ。Yes"), (Words{"どこで生れ", "。", "Yes"}));
  EXPECT_EQ(words(kJson, "Apples are りんご 林檎"), (Words{"Apples are ", "りんご 林檎"}));
  EXPECT_EQ(words(kJson, "  мир, a"),
            (Words{"мир", ", ", "a"}));  // spaces at the beginning are lost
  EXPECT_EQ(words(kJson, "  "), Words{});
}

// Cut where a step allows it, the parts give the words of the whole.
TEST(PreTokenizer, SafeCutsKeepTheWords) {
  std::mt19937 random(9);
  constexpr std::string_view kPieces[] = {"a", "bc", " ", "  ",     "\n", "▁",
                                          ".", "1",  "é", "\u3000", "漢"};
  for (const char* json :
       {R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})",
        R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"})",
        R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false})",
        R"({"type": "BertPreTokenizer"})", R"({"type": "WhitespaceSplit"})",
        R"({"type": "Whitespace"})", R"({"type": "Digits", "individual_digits": true})",
        R"({"type": "Digits", "individual_digits": false})",
        R"({"type": "Punctuation", "behavior": "MergedWithPrevious"})"}) {
    const auto pre_tokenizer = parse_part<PreTokenizer>(json);
    int cuts = 0;
    for (int round = 0; round < 300; ++round) {
      std::string text;
      for (int i = 0; i < 12; ++i) text += kPieces[random() % std::size(kPieces)];
      const Piece piece{text, static_cast<size_t>(utf8_size(text[0]))};
      const size_t cut = pre_tokenizer.safe_cut(text, 1 + random() % text.size());
      cuts += cut < text.size() ? 1 : 0;
      Words whole, parts;
      auto collect = [&](Piece word) { whole.emplace_back(word.text); };
      auto collect_part = [&](Piece word) { parts.emplace_back(word.text); };
      pre_tokenizer.split(piece, PieceSink(collect));
      pre_tokenizer.split(piece.part(0, cut), PieceSink(collect_part));
      pre_tokenizer.split(piece.part(cut, text.size()), PieceSink(collect_part));
      EXPECT_EQ(parts, whole) << json << " " << testing::PrintToString(text) << " at " << cut;
    }
    const std::string_view kind = json;
    const bool never = kind.find("false") != std::string_view::npos ||
                       kind.find("MergedWith") != std::string_view::npos;
    EXPECT_EQ(cuts == 0, never) << json;
  }
}

TEST(PreTokenizer, RefusesWhatItDoesNotKnow) {
  const auto error = [](std::string_view json) {
    return error_of([&] { parse_part<PreTokenizer>(json); });
  };
  EXPECT_NE(error(R"({"type": "Sentences"})").find("is not supported"), std::string::npos);
  EXPECT_EQ(error(split_json("Sideways")),
            "test.behavior: \"Sideways\" is not supported; supported: Removed, Isolated, "
            "MergedWithPrevious, MergedWithNext, Contiguous");
  EXPECT_EQ(error(R"({"type": "Metaspace", "replacement": "ab"})"),
            "test.replacement: expected a string of one character, found \"ab\"; is the file "
            "damaged?");
  const std::string broken = error(R"({"type": "Split", "pattern": {"Regex": "a(b"},
                                       "behavior": "Isolated", "invert": false})");
  EXPECT_NE(broken.find("expected a regular expression"), std::string::npos) << broken;
  EXPECT_NE(broken.find("test.pattern"), std::string::npos) << broken;
}

// ---- expressions: Oniguruma's Ruby syntax on PCRE2 ----

Words matches(std::string_view expression, std::string_view text) {
  const Pattern pattern = Pattern::regex(expression, "test");
  Pattern::Matches found(pattern, text);
  Words out;
  for (size_t begin = 0, end = 0; found.next(begin, end);)
    out.emplace_back(text.substr(begin, end - begin));
  return out;
}

TEST(Pattern, UnicodeSetsOfOniguruma) {
  EXPECT_EQ(matches(R"(\s+)", "a\u00a0\u2028\t\vb"), (Words{"\u00a0\u2028\t\v"}));
  EXPECT_EQ(matches(R"([\w]+)", "aé_1\u0301Ⓐ-½"), (Words{"aé_1\u0301Ⓐ"}));
  // Outside of a class superscripts and fractions of Latin-1 are among them.
  EXPECT_EQ(matches(R"(\w+)", "aé_1\u0301Ⓐ-½ ²b"), (Words{"aé_1\u0301Ⓐ", "½", "²b"}));
  EXPECT_EQ(matches(R"(\W+)", "a½ ²b"), Words{" "});
  EXPECT_EQ(matches(R"(a.\b)", "a½ a+ a½b"), Words{"a½"});
  EXPECT_EQ(matches(R"([\d]+)", "1٣½x"), (Words{"1٣"}));
  EXPECT_EQ(matches(R"(\h+)", "xBEef9g"), (Words{"BEef9"}));
  EXPECT_EQ(matches(R"(\p{Letter}+|\p{^Han})", "aé漢-"), (Words{"aé漢", "-"}));
  EXPECT_EQ(matches(R"(\p{Lu}\p{Ll})", "aBc"), (Words{"Bc"}));
}

TEST(Pattern, SyntaxOfOniguruma) {
  EXPECT_EQ(matches("a{,2}b", "aaab"), (Words{"aab"}));
  EXPECT_EQ(matches("(?i:ab)c", "ABc abC"), (Words{"ABc"}));
  EXPECT_EQ(matches("(?m:.)", "\n"), (Words{"\n"}));
  EXPECT_EQ(matches(".", "\n"), Words{});
  EXPECT_EQ(matches("^b$", "a\nb\nc"), (Words{"b"}));
  EXPECT_EQ(matches(R"(\x{1F600}|\u00e9|\x41)", "😀éA"), (Words{"😀", "é", "A"}));
  EXPECT_EQ(matches("x*", "axb"), (Words{"", "x", ""}));
  EXPECT_EQ(matches(R"(\s+(?!\S))", "  a  "), (Words{" ", "  "}));
}

TEST(Pattern, RefusesWhatPcre2ReadsDifferently) {
  for (const char* expression : {"[a[b]]", "[a&&b]", "a{1,2}+", R"(\K)", R"(\G)", "(?~a)", "[]a]",
                                 R"(\xff)", R"([\W])", "a(?i)b", "(?R)", "(*ACCEPT)"})
    EXPECT_NE(error_of([&] { Pattern::regex(expression, "test"); }).find("not supported"),
              std::string::npos)
        << expression;
  for (const char* expression : {"[a", "\\", "(", "a**", R"(\p{Nonsense})"})
    EXPECT_NE(error_of([&] { Pattern::regex(expression, "test"); }).find("expression"),
              std::string::npos)
        << expression;
}

TEST(Pattern, EndlessBacktrackingIsAnError) {
  const Pattern pattern = Pattern::regex("(a+a+)+$", "test");
  const std::string text(60, 'a');
  const std::string hostile = text + "b";
  Pattern::Matches found(pattern, hostile);
  size_t begin = 0, end = 0;
  EXPECT_NE(error_of([&] { found.next(begin, end); }).find("cannot be matched at byte 0"),
            std::string::npos);
}

}  // namespace
}  // namespace kvasir::text
