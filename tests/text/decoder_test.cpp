#include "text/decoder.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "text/parts.h"

namespace kvasir::text {
namespace {

std::string decode(std::string_view json, std::vector<std::string_view> tokens) {
  const auto decoder = parse_part<Decoder>(json);
  std::string out;
  Decoder::Run run(decoder, out);
  for (const std::string_view token : tokens) run.push(token);
  run.finish();
  return out;
}

constexpr const char* kSentencePiece = R"({"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";

TEST(Decoder, NullJoinsWithSpaces) { EXPECT_EQ(decode("null", {"a", "b", "c"}), "a b c"); }

TEST(Decoder, ByteLevel) {
  EXPECT_EQ(decode(R"({"type": "ByteLevel"})", {"Ġa", "Ã", "©", "Ċ"}), " aé\n");
  // Bytes that are no character; a token outside the alphabet stands for itself.
  EXPECT_EQ(decode(R"({"type": "ByteLevel"})", {"Ã", "a", "Ã"}), "\uFFFDa\uFFFD");
  EXPECT_EQ(decode(R"({"type": "ByteLevel"})", {"漢Ġ"}), "漢Ġ");
}

TEST(Decoder, ByteFallback) {
  EXPECT_EQ(decode(R"({"type": "ByteFallback"})", {"a", "<0xC3>", "<0xA9>", "b"}), "aéb");
  EXPECT_EQ(decode(R"({"type": "ByteFallback"})", {"<0xC3>", "<0x41>"}), "\uFFFD\uFFFD");
  EXPECT_EQ(decode(R"({"type": "ByteFallback"})", {"<0xC>", "<0x1G>", "<0X41>"}),
            "<0xC><0x1G><0X41>");
}

TEST(Decoder, Metaspace) {
  const auto json = [](std::string_view scheme) {
    return fmt::format(
        R"({{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "{}", "split": true}})",
        scheme);
  };
  EXPECT_EQ(decode(json("always"), {"▁a", "▁b"}), "a b");
  EXPECT_EQ(decode(json("first"), {"▁a", "▁b"}), "a b");
  EXPECT_EQ(decode(json("never"), {"▁a", "▁b"}), " a b");
}

TEST(Decoder, SentencePieceStripsOneSpaceOfTheWhole) {
  EXPECT_EQ(decode(kSentencePiece, {"▁▁a", "▁b", "<0x0A>"}), " a b\n");
  EXPECT_EQ(decode(kSentencePiece, {"a", "▁b"}), "a b");
}

TEST(Decoder, StripOfEachTokenOrOfTheFusedText) {
  EXPECT_EQ(decode(R"({"type": "Strip", "content": "x", "start": 1, "stop": 1})",
                   {"xxaxx", "x", "xx", "b"}),
            "xaxb");
  EXPECT_EQ(decode(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
                       {"type": "Strip", "content": "x", "start": 1, "stop": 2}]})",
                   {"xxa", "x", "b", "xx", "x"}),
            "xaxbx");
}

TEST(Decoder, ReplaceBehindFuseSeesTheWholeText) {
  EXPECT_EQ(decode(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
      {"type": "Replace", "pattern": {"String": "ab"}, "content": "-"}]})",
                   {"xa", "b"}),
            "x-");
  EXPECT_EQ(
      decode(R"({"type": "Replace", "pattern": {"Regex": "a+"}, "content": "-"})", {"xa", "ab"}),
      "x--b");
}

TEST(Decoder, WordPiece) {
  const auto json = [](bool cleanup) {
    return fmt::format(R"({{"type": "WordPiece", "prefix": "##", "cleanup": {}}})", cleanup);
  };
  EXPECT_EQ(decode(json(false), {"##a", "##b", "c", "##", "."}), "##ab c .");
  EXPECT_EQ(decode(json(true), {"a", "##b", ".", "?", "do", "not", "n't", "'s", "x ' y", "##'"}),
            "ab.? do notn't's x'y'");
  EXPECT_EQ(decode(json(true), {"we do not", " do not"}), "we don't  don't");
  EXPECT_EQ(decode(R"({"type": "Sequence", "decoders": [{"type": "Fuse"},
                       {"type": "WordPiece", "prefix": "##", "cleanup": true}]})",
                   {"a", " ", ".", "##b"}),
            "a.##b");
}

TEST(Decoder, Ctc) {
  const auto json = [](bool cleanup) {
    return fmt::format(
        R"({{"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": {}}})",
        cleanup);
  };
  const std::vector<std::string_view> kTokens = {"<pad>", "h", "h", "<pad>",  "h", "i",
                                                 "i",     "|", "|", "x<pad>", " ."};
  EXPECT_EQ(decode(json(true), kTokens), "hhi x.");
  EXPECT_EQ(decode(json(false), kTokens), "hhi|x .");
}

TEST(Decoder, RunsAnew) {
  const auto decoder = parse_part<Decoder>(kSentencePiece);
  std::string out;
  Decoder::Run run(decoder, out);
  for (int i = 0; i < 2; ++i) {
    run.push("▁a");
    run.finish();
  }
  EXPECT_EQ(out, "aa");
}

TEST(Decoder, RefusesReplacementsThatGrowWithoutBound) {
  std::string list;
  for (int i = 0; i < 7; ++i)
    list += std::string(i > 0 ? "," : "") +
            R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  const std::string json = R"({"type": "Sequence", "decoders": [)" + list + "]}";
  EXPECT_NE(error_of([&] {
              parse_part<Decoder>(json);
            }).find("replacements that make text at most 64 times larger"),
            std::string::npos);
}

TEST(Decoder, RefusesWhatItDoesNotKnow) {
  EXPECT_NE(error_of([] {
              parse_part<Decoder>(R"({"type": "CTC", "pad_token": "", "word_delimiter_token": "",
                                      "cleanup": true})");
            }).find("a word_delimiter_token that is not empty"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              parse_part<Decoder>(R"({"type": "BPEDecoder"})");
            }).find("\"BPEDecoder\" is not supported"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              parse_part<Decoder>(R"({"type": "Strip", "content": " ", "start": -1, "stop": 0})");
            }).find("test.start: expected an integer from 0"),
            std::string::npos);
}

}  // namespace
}  // namespace kvasir::text
