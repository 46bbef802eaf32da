#include "text/normalizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "text/parts.h"

namespace kvasir::text {
namespace {

TEST(Normalizer, NullIsIdentity) {
  EXPECT_TRUE(parse_part<Normalizer>("null").is_identity());
  EXPECT_EQ(normalize("null", "ÀB"), "ÀB");
}

TEST(Normalizer, UnicodeForms) {
  const std::string composed = "\u00e9\ufb01\u00bd", decomposed = "e\u0301\ufb01\u00bd";
  EXPECT_EQ(normalize(R"({"type": "NFC"})", decomposed), composed);
  EXPECT_EQ(normalize(R"({"type": "NFD"})", composed), decomposed);
  EXPECT_EQ(normalize(R"({"type": "NFKC"})", decomposed), "\u00e9fi1\u20442");
  EXPECT_EQ(normalize(R"({"type": "NFKD"})", composed), "e\u0301fi1\u20442");
}

TEST(Normalizer, UnicodeFormsReachOverAscii) {
  // A mark combines with an ASCII letter before it; Hangul and long runs of marks go as wholes.
  EXPECT_EQ(normalize(R"({"type": "NFC"})", "aaaaaaaaae\u0301zzzzzzzzz"),
            "aaaaaaaaa\u00e9zzzzzzzzz");
  EXPECT_EQ(normalize(R"({"type": "NFC"})", "\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(normalize(R"({"type": "NFD"})", "\ud55c"), "\u1112\u1161\u11ab");
  EXPECT_EQ(normalize(R"({"type": "NFC"})", "\u0301e"), "\u0301e");
}

TEST(Normalizer, Lowercase) {
  EXPECT_EQ(normalize(R"({"type": "Lowercase"})", "AÀΣİß"), "aàσi\u0307ß");
}

TEST(Normalizer, StripAccentsTakesMarks) {
  EXPECT_EQ(normalize(R"({"type": "StripAccents"})", "e\u0301a\u0302\u20e3"), "ea");
  EXPECT_EQ(normalize(R"({"type": "StripAccents"})", "\u00e9"), "\u00e9");  // composed: no mark
}

TEST(Normalizer, Strip) {
  const std::string text = "\u00a0 \ta \n";
  EXPECT_EQ(normalize(R"({"type": "Strip", "strip_left": true, "strip_right": true})", text), "a");
  EXPECT_EQ(normalize(R"({"type": "Strip", "strip_left": true, "strip_right": false})", text),
            "a \n");
  EXPECT_EQ(normalize(R"({"type": "Strip", "strip_left": false, "strip_right": true})", text),
            "\u00a0 \ta");
  EXPECT_EQ(normalize(R"({"type": "Strip", "strip_left": true, "strip_right": true})", " \n"), "");
}

TEST(Normalizer, PrependLeavesEmptyTextEmpty) {
  EXPECT_EQ(normalize(R"({"type": "Prepend", "prepend": "▁"})", "a"), "▁a");
  EXPECT_EQ(normalize(R"({"type": "Prepend", "prepend": "▁"})", ""), "");
}

TEST(Normalizer, ReplaceTextOrExpression) {
  EXPECT_EQ(
      normalize(R"({"type": "Replace", "pattern": {"String": "aa"}, "content": "b"})", "aaaaa"),
      "bba");
  EXPECT_EQ(
      normalize(R"({"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": "_"})", "a \n b "),
      "a_b_");
  EXPECT_EQ(normalize(R"({"type": "Replace", "pattern": {"Regex": "x"}, "content": ""})", "axb"),
            "ab");
}

TEST(Normalizer, ByteLevelWritesBytesAsCharacters) {
  EXPECT_EQ(normalize(R"({"type": "ByteLevel"})", "a \u00e9"), "aĠÃ©");
}

TEST(Normalizer, SequenceInOrder) {
  EXPECT_EQ(normalize(R"({"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})",
                      "A B"),
            "▁a▁b");
}

// What Metaspace("first") asks for: which bytes stem from the very first character.
TEST(Normalizer, TellsWhatStemsFromTheFirstCharacter) {
  const auto origin = [](std::string_view json, std::string_view text, bool at_origin = true) {
    return parse_part<Normalizer>(json).apply(text, at_origin).origin_bytes;
  };
  EXPECT_EQ(origin("null", "éa"), 2u);
  EXPECT_EQ(origin("null", "éa", false), 0u);
  EXPECT_EQ(origin(R"({"type": "NFD"})", "\u00e9a"), 3u);
  EXPECT_EQ(origin(R"({"type": "Prepend", "prepend": "▁"})", "ab"), 4u);
  EXPECT_EQ(origin(R"({"type": "Strip", "strip_left": true, "strip_right": true})", " ab"), 0u);
  EXPECT_EQ(origin(R"({"type": "Replace", "pattern": {"String": "a"}, "content": "xyz"})", "ab"),
            3u);
}

TEST(Normalizer, GrowthWithoutBoundIsAnError) {
  std::string list;
  for (int i = 0; i < 30; ++i)
    list += std::string(i > 0 ? "," : "") +
            R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  const std::string json = R"({"type": "Sequence", "normalizers": [)" + list + "]}";
  EXPECT_NE(error_of([&] { normalize(json, "aaaa"); }).find("is the file hostile?"),
            std::string::npos);
}

// The first character may compose with the next one: what stems from it is whole characters.
TEST(Normalizer, FormsOneAfterTheOther) {
  const auto normalizer = parse_part<Normalizer>(R"({"type": "Sequence", "normalizers": [
      {"type": "NFC"}, {"type": "NFD"}, {"type": "NFC"}]})");
  const NormalizedText text = normalizer.apply("e\u0301x", true);
  EXPECT_EQ(text.text, "éx");
  EXPECT_EQ(text.origin_bytes, 2u);
}

TEST(Normalizer, Nmt) {
  EXPECT_EQ(normalize(R"({"type": "Nmt"})", "a\x01\x0B\u008Fb\t\n\u2581\u200B\uFEFF\uFFFD\u00A0é"),
            "ab      \u00A0é");
}

TEST(Normalizer, Bert) {
  const auto bert = [](std::string_view clean, std::string_view chinese, std::string_view strip,
                       std::string_view lower, std::string_view text) {
    return normalize(fmt::format(R"({{"type": "BertNormalizer", "clean_text": {},
        "handle_chinese_chars": {}, "strip_accents": {}, "lowercase": {}}})",
                                 clean, chinese, strip, lower),
                     text);
  };
  EXPECT_EQ(bert("true", "false", "false", "false", "a\t\u00A0\v\u0085\uFFFD\u00ADb\u200D"),
            "a  b");
  EXPECT_EQ(bert("false", "true", "false", "false", "a漢字b\u3042\U0002B820"),
            "a 漢  字 b\u3042\U0002B820");
  // Without a word on accents they go with the case.
  EXPECT_EQ(bert("false", "false", "null", "true", "ÀÉ"), "ae");
  EXPECT_EQ(bert("false", "false", "null", "false", "ÀÉ"), "ÀÉ");
  EXPECT_EQ(bert("false", "false", "true", "false", "ÀÉ"), "AE");
  EXPECT_EQ(bert("false", "false", "false", "true", "ÀÉ"), "àé");
}

TEST(Normalizer, RefusesWhatItDoesNotKnow) {
  const auto error = [](std::string_view json) {
    return error_of([&] { parse_part<Normalizer>(json); });
  };
  EXPECT_EQ(error(R"({"type": "Uppercase"})"),
            "test: \"Uppercase\" is not supported; supported: Sequence, NFC, NFD, NFKC, NFKD, "
            "Lowercase, StripAccents, ByteLevel, Prepend, Strip, Replace, Nmt, Precompiled, "
            "BertNormalizer");
  EXPECT_EQ(error(R"({"type": "Prepend"})"),
            "test: expected an object with the key \"prepend\", found an object with "
            "the keys [type]; is the file damaged?");
  EXPECT_EQ(error(R"({"type": "Strip", "strip_left": 1, "strip_right": true})"),
            "test.strip_left: expected true or false, found 1; is the file damaged?");
  EXPECT_EQ(error("[]"), "test: expected an object, found array; is the file damaged?");
  std::string deep = R"({"type": "NFC"})";
  for (int i = 0; i < 40; ++i) deep = R"({"type": "Sequence", "normalizers": [)" + deep + "]}";
  EXPECT_NE(error(deep).find("at most 16 nested sequences"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::text
