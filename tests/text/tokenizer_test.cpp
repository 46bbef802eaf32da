// Whole tokenizers: BPE, added tokens, post-processing, decoding by token, threads, broken files.

#include "text/tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "base/file.h"
#include "base/thread_pool.h"
#include "text/parts.h"
#include "text/unicode.h"

namespace kvasir::text {
namespace {

using Ids = std::vector<TokenId>;

Tokenizer shipped() {
  return Tokenizer::load(KVASIR_SOURCE_DIR "/models/bootstrap-16m/tokenizer.json").value();
}

// ---- byte-pair encoding ----

TEST(Bpe, MergesByRankLeftmostFirst) {
  const Tokenizer tokenizer = parse_tokenizer(R"({"model": {"type": "BPE",
      "vocab": {"a": 0, "b": 1, "ab": 2, "aa": 3, "aab": 4}, "merges": ["a b", ["a", "a"], "aa b"]}})");
  EXPECT_EQ(tokenizer.encode("aab"), (Ids{0, 2}));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{3, 0}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
}

// Words beyond the length where a heap takes over from the scan.
TEST(Bpe, LongWordsMergeLikeShortOnes) {
  const Tokenizer tokenizer = parse_tokenizer(R"({"model": {"type": "BPE",
      "vocab": {"a": 0, "aa": 1, "aaaa": 2}, "merges": ["a a", "aa aa"]}})");
  for (const size_t size : {7u, 39u, 40u, 41u, 203u}) {
    Ids expected(size / 4, 2);
    if (size % 4 >= 2) expected.push_back(1);
    if (size % 2 == 1) expected.push_back(0);
    EXPECT_EQ(tokenizer.encode(std::string(size, 'a')), expected) << size;
  }
}

TEST(Bpe, UnknownCharacters) {
  const auto encode = [](std::string_view options, std::string_view text) {
    return parse_tokenizer(fmt::format(R"({{"model": {{"type": "BPE", {}
        "vocab": {{"a": 0, "<unk>": 1, "<0xC3>": 2, "<0xA9>": 3}}, "merges": []}}}})",
                                       options))
        .encode(text);
  };
  EXPECT_EQ(encode("", "xaxx"), Ids{0});
  EXPECT_EQ(encode(R"("unk_token": "<unk>",)", "xaxx"), (Ids{1, 0, 1, 1}));
  EXPECT_EQ(encode(R"("unk_token": "<unk>", "fuse_unk": true,)", "xaxx"), (Ids{1, 0, 1}));
  EXPECT_EQ(encode(R"("unk_token": "<unk>", "byte_fallback": true,)", "éax"), (Ids{2, 3, 0, 1}));
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
  const auto encode = [](bool ignore) {
    return parse_tokenizer(fmt::format(R"({{"model": {{"type": "BPE", "ignore_merges": {},
        "vocab": {{"a": 0, "b": 1, "ab": 2}}, "merges": []}}}})",
                                       ignore))
        .encode("ab");
  };
  EXPECT_EQ(encode(false), (Ids{0, 1}));
  EXPECT_EQ(encode(true), Ids{2});
}

// ---- invalid UTF-8: read as Python's decode("utf-8", "replace") reads it ----

TEST(Tokenizer, InvalidUtf8IsReplaced) {
  EXPECT_EQ(to_valid_utf8("a\xFFz"), "a\uFFFDz");
  EXPECT_EQ(to_valid_utf8("\xE2\x82"), "\uFFFD");  // one truncated character
  EXPECT_EQ(to_valid_utf8("\xE2\x82z"), "\uFFFDz");
  EXPECT_EQ(to_valid_utf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");            // a surrogate
  EXPECT_EQ(to_valid_utf8("\xC0\xAF"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(to_valid_utf8("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // beyond U+10FFFF
  EXPECT_EQ(to_valid_utf8("\xF0\x9F\x98"), "\uFFFD");
  const Tokenizer tokenizer = shipped();
  EXPECT_EQ(tokenizer.encode("a\xFF\xE2\x82z"), tokenizer.encode("a\uFFFD\uFFFDz"));
}

// ---- added tokens ----

std::string with_added(std::string_view options) {
  return fmt::format(
      R"({{"model": {{"type": "BPE", "vocab": {{"a": 0, " ": 1, "<": 2, "x": 3, ">": 4, "b": 5}},
      "merges": []}}, "added_tokens": [{{"id": 9, "content": "<x>", {}}}]}})",
      options);
}

TEST(AddedTokens, FoundAnywhere) {
  const Tokenizer tokenizer = parse_tokenizer(with_added(R"("special": true)"));
  EXPECT_EQ(tokenizer.encode("a<x><x>b"), (Ids{0, 9, 9, 5}));
  EXPECT_EQ(tokenizer.encode("a<x"), (Ids{0, 2, 3}));
  EXPECT_TRUE(tokenizer.is_special(9));
  EXPECT_EQ(tokenizer.token_to_id("<x>"), 9);
  EXPECT_EQ(tokenizer.id_to_token(9), "<x>");
  EXPECT_EQ(tokenizer.id_to_token(8), "");
  EXPECT_EQ(tokenizer.vocab_size(), 10);
}

TEST(AddedTokens, SpecialOnesArePlainTextWhereNotParsed) {
  const EncodeOptions options{.parse_special = false};
  EXPECT_EQ(parse_tokenizer(with_added(R"("special": true)")).encode("<x>", options),
            (Ids{2, 3, 4}));
  EXPECT_EQ(parse_tokenizer(with_added(R"("special": false)")).encode("<x>", options), Ids{9});
}

TEST(AddedTokens, Strips) {
  EXPECT_EQ(parse_tokenizer(with_added(R"("lstrip": true)")).encode("a  <x> b"), (Ids{0, 9, 1, 5}));
  EXPECT_EQ(parse_tokenizer(with_added(R"("rstrip": true)")).encode("a <x>  b"), (Ids{0, 1, 9, 5}));
}

TEST(AddedTokens, SingleWord) {
  const Tokenizer tokenizer =
      parse_tokenizer(R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, " ": 2},
      "merges": []}, "added_tokens": [{"id": 9, "content": "ab", "single_word": true}]})");
  EXPECT_EQ(tokenizer.encode("ab aab ab"), (Ids{9, 2, 0, 0, 1, 2, 9}));
}

TEST(AddedTokens, NormalizedOnesAreSoughtInNormalizedText) {
  const auto encode = [](bool normalized, std::string_view text) {
    return parse_tokenizer(fmt::format(
                               R"({{"normalizer": {{"type": "Lowercase"}}, "model": {{"type": "BPE",
        "vocab": {{"y": 0, "e": 1, "s": 2}}, "merges": []}},
        "added_tokens": [{{"id": 9, "content": "YES", "normalized": {}}}]}})",
                               normalized))
        .encode(text);
  };
  EXPECT_EQ(encode(true, "yes"), Ids{9});
  EXPECT_EQ(encode(true, "YES"), Ids{9});
  EXPECT_EQ(encode(false, "yes"), (Ids{0, 1, 2}));
  EXPECT_EQ(encode(false, "YES"), Ids{9});
}

TEST(AddedTokens, LongestAtItsPlaceWins) {
  const Tokenizer tokenizer =
      parse_tokenizer(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
      "added_tokens": [{"id": 8, "content": "<x"}, {"id": 9, "content": "<x>"}]})");
  EXPECT_EQ(tokenizer.encode("<x><x"), (Ids{9, 8}));
}

// ---- post-processing ----

TEST(PostProcessor, Templates) {
  const Tokenizer tokenizer =
      parse_tokenizer(R"({"model": {"type": "BPE", "vocab": {"a": 0, "<s>": 7, "</s>": 8},
      "merges": []}, "post_processor": {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "trim_offsets": true},
        {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
          {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
         "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]},
                                        "</s>": {"id": "</s>", "ids": [8, 8], "tokens": ["</s>"]}}}]}})");
  EXPECT_EQ(tokenizer.encode("a"), (Ids{7, 0, 8, 8}));
  EXPECT_EQ(tokenizer.encode("a", {.add_special_tokens = false}), Ids{0});
  EXPECT_EQ(tokenizer.encode(""), (Ids{7, 8, 8}));
}

// ---- decoding by token ----

TEST(TokenDecoder, HoldsBackUnfinishedCharacters) {
  const Tokenizer tokenizer = shipped();
  for (const std::string text : {"😀 naïve 漢字", "a\n\n  b", "\U0001F468\u200D\U0001F469"}) {
    const Ids ids = tokenizer.encode(text, {.add_special_tokens = false});
    TokenDecoder decoder(tokenizer);
    std::string got;
    for (const TokenId id : ids) {
      const std::string part = decoder.push(id);
      EXPECT_TRUE(is_valid_utf8(part));
      EXPECT_EQ(part.find("\uFFFD"), std::string::npos);
      got += part;
    }
    EXPECT_EQ(got + decoder.finish(), text);
  }
}

TEST(TokenDecoder, EndsAnUnfinishedCharacterWithAReplacement) {
  const Tokenizer tokenizer = shipped();
  const Ids ids = tokenizer.encode("\U0001F9FF", {.add_special_tokens = false});
  ASSERT_GT(ids.size(), 1u);
  TokenDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(ids[0]), "");
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(tokenizer.decode(std::span(ids).first(1)), "\uFFFD");
}

TEST(TokenDecoder, LeavesOutWhatIsNoToken) {
  const Tokenizer tokenizer = shipped();
  TokenDecoder decoder(tokenizer);
  for (const TokenId id : {-1, tokenizer.vocab_size(), INT32_MAX, INT32_MIN, 0})
    EXPECT_EQ(decoder.push(id), "");
  EXPECT_EQ(decoder.finish(), "");
  EXPECT_EQ(tokenizer.decode(Ids{-1, INT32_MAX, 0}), "");
  EXPECT_EQ(tokenizer.decode(Ids{0}, false), "<|begin|>");
}

// ---- threads ----

TEST(TokenizerThreads, ChunksEqualTheWhole) {
  const std::string book = read_file(KVASIR_SOURCE_DIR "/examples/frankenstein.txt").value();
  std::string text = book.substr(0, 120'000);
  text += std::string(70'000, ' ') + std::string(50'000, 'a') + std::string(40'000, '\n');
  std::mt19937 random(7);
  for (int i = 0; i < 60'000; ++i) append_utf8(0x20 + random() % 0xD000, text);
  ThreadPool pool(3);
  const Tokenizer tokenizer = shipped();
  EXPECT_TRUE(tokenizer.encode(text, pool) == tokenizer.encode(text));

  // One word, cut between characters and marks; every merge must see its neighbours.
  const Tokenizer marks =
      parse_tokenizer(R"({"normalizer": {"type": "Replace", "pattern": {"String": " "},
      "content": "▁"}, "model": {"type": "BPE", "unk_token": "u", "fuse_unk": true,
      "vocab": {"a": 0, "b": 1, "▁": 2, "▁a": 3, "b▁": 4, "b▁a": 5, "u": 6, "▁▁": 7}, "merges":
      ["▁ a", "▁ ▁", "b ▁", "b▁ a"]}})");
  std::string letters;
  for (int i = 0; i < 200'000; ++i) letters.push_back("ab  ?"[random() % 5]);
  EXPECT_TRUE(marks.encode(letters, pool) == marks.encode(letters));
}

TEST(TokenizerThreads, OneTokenizerServesMany) {
  const Tokenizer tokenizer = shipped();
  const std::string text =
      read_file(KVASIR_SOURCE_DIR "/examples/frankenstein.txt").value().substr(0, 40'000);
  const Ids expected = tokenizer.encode(text);
  std::vector<std::thread> threads;
  std::vector<int> equal(4, 0);
  for (size_t i = 0; i < equal.size(); ++i)
    threads.emplace_back([&, i] { equal[i] = tokenizer.encode(text) == expected ? 1 : 0; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(equal, std::vector<int>(4, 1));
}

TEST(TokenizerThreads, FailuresReachTheCaller) {
  const Tokenizer tokenizer = parse_tokenizer(R"({"pre_tokenizer": {"type": "Split", "pattern":
      {"Regex": "(a+a+)+$"}, "behavior": "Isolated", "invert": false},
      "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})");
  ThreadPool pool(2);
  const std::string text = std::string(100'000, 'a') + "b";
  EXPECT_THROW(tokenizer.encode(text, pool), Error);
}

// ---- broken files ----

std::string error_of_file(std::string_view json) {
  const auto result = Tokenizer::parse(json, "t.json");
  return result ? "" : result.error().what();
}

TEST(TokenizerFile, SaysWhatIsWrongAndWhere) {
  EXPECT_NE(error_of_file("{").find("t.json: expected the JSON of a tokenizer, found"),
            std::string::npos);
  EXPECT_EQ(error_of_file("[]"), "t.json: expected an object, found array; is the file damaged?");
  EXPECT_EQ(error_of_file("{}"),
            "t.json: expected an object with the key \"model\", found an object with the keys "
            "[]; is the file damaged?");
  EXPECT_EQ(error_of_file(R"({"version": "2.0"})"),
            "t.json.version: \"2.0\" is not supported; supported: 1.0");
  EXPECT_EQ(error_of_file(R"({"model": {"type": "Trigram"}})"),
            "t.json.model: \"Trigram\" is not supported; supported: BPE, Unigram, WordPiece, "
            "WordLevel");
  const auto model = [](std::string_view vocab, std::string_view merges) {
    return error_of_file(
        fmt::format(R"({{"model": {{"type": "BPE", "vocab": {}, "merges": {}}}}})", vocab, merges));
  };
  EXPECT_EQ(model(R"({"a": -1})", "[]"),
            "t.json.model.vocab[\"a\"]: expected an integer from 0 to 4194303, found -1; is the "
            "file damaged?");
  EXPECT_EQ(model(R"({"a": 0, "b": 0})", "[]"),
            "t.json.model.vocab: expected every id once, found 0 again for the token \"b\"; is the "
            "file damaged?");
  EXPECT_EQ(model(R"({"a": 0})", R"(["a b"])"),
            "t.json.model.merges[0]: expected tokens of the vocabulary, found \"b\"; do vocabulary "
            "and merges belong together?");
  EXPECT_EQ(model(R"({"a": 0})", R"(["a"])"),
            "t.json.model.merges[0]: expected two tokens with one space between them, found "
            "\"a\"; is the file damaged?");
  EXPECT_EQ(model("[]", "[]"),
            "t.json.model.vocab: expected an object, found array; is the file damaged?");
  EXPECT_NE(error_of_file(R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
      "added_tokens": [{"id": 0, "content": "b"}]})")
                .find("t.json.added_tokens[0]: expected one id a token"),
            std::string::npos);
  EXPECT_EQ(Tokenizer::load("/nowhere/tokenizer.json").error().code(), ErrorCode::kNotFound);
}

// Deep nesting must neither blow the stack of the reader nor that of a destructor.
TEST(TokenizerFile, DeepJsonIsAnError) {
  std::string json = R"({"model": )";
  for (int i = 0; i < 200'000; ++i) json += "[";
  EXPECT_NE(error_of_file(json), "");
  for (int i = 0; i < 200'000; ++i) json += "]";
  EXPECT_NE(error_of_file(json + "}"), "");
}

}  // namespace
}  // namespace kvasir::text
