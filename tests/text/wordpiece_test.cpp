#include "text/wordpiece.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "base/thread_pool.h"
#include "text/parts.h"

namespace kvasir::text {
namespace {

using Ids = std::vector<TokenId>;

std::string file_of(std::string_view vocabulary, int most_characters = 100,
                    std::string_view prefix = "##", std::string_view more = "") {
  return fmt::format(R"({{{} "model": {{"type": "WordPiece", "unk_token": "[UNK]",
      "continuing_subword_prefix": "{}", "max_input_chars_per_word": {}, "vocab": {}}}}})",
                     more, prefix, most_characters, vocabulary);
}

constexpr std::string_view kVocabulary =
    R"({"[UNK]": 0, "un": 1, "##aff": 2, "##able": 3, "##a": 4, "é": 5, "##é": 6, "##": 7, "#": 8,
        "unaf": 9, "a": 10})";

TEST(WordPiece, TakesTheLongestTokenThatFits) {
  const Tokenizer tokenizer = parse_tokenizer(file_of(kVocabulary));
  EXPECT_EQ(tokenizer.encode("unaffable"), Ids{0});  // unaf leaves fable, which nothing begins
  EXPECT_EQ(tokenizer.encode("unaable"), (Ids{1, 4, 3}));
  EXPECT_EQ(tokenizer.encode("ééa"), (Ids{5, 6, 4}));
  EXPECT_EQ(tokenizer.encode("##"), Ids{7});  // as it stands, at the beginning of a word
  EXPECT_EQ(tokenizer.encode("#é"), (Ids{8, 6}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
}

TEST(WordPiece, WordsThatAreNotCoveredAreUnknownAsAWhole) {
  const Tokenizer tokenizer = parse_tokenizer(file_of(kVocabulary));
  EXPECT_EQ(tokenizer.encode("unx"), Ids{0});
  EXPECT_EQ(tokenizer.encode("xun"), Ids{0});
}

TEST(WordPiece, LongWordsAreUnknown) {
  const Tokenizer tokenizer = parse_tokenizer(file_of(kVocabulary, 4));
  EXPECT_EQ(tokenizer.encode("éééé"), (Ids{5, 6, 6, 6}));  // characters, not bytes
  EXPECT_EQ(tokenizer.encode("ééééé"), Ids{0});
}

TEST(WordPiece, PrefixMayBeEmpty) {
  EXPECT_EQ(parse_tokenizer(file_of(kVocabulary, 100, "")).encode("aun#"), (Ids{10, 1, 8}));
}

TEST(WordPiece, BertAsAWhole) {
  const Tokenizer tokenizer = parse_tokenizer(file_of(
      R"({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "hello": 3, ",": 4, "w": 5, "##orld": 6, "日": 7,
          "本": 8, "[MASK]": 9})",
      100, "##",
      R"("normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
          "strip_accents": null, "lowercase": true},
         "pre_tokenizer": {"type": "BertPreTokenizer"},
         "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
         "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
         "added_tokens": [{"id": 1, "content": "[CLS]", "special": true},
          {"id": 2, "content": "[SEP]", "special": true},
          {"id": 9, "content": "[MASK]", "special": true, "lstrip": true}],)"));
  const Ids ids = tokenizer.encode("Héllo,\tWO\u00ADRLD日本 [MASK]");
  EXPECT_EQ(ids, (Ids{1, 3, 4, 5, 6, 7, 8, 9, 2}));
  EXPECT_EQ(tokenizer.encode("x", {.add_special_tokens = false}), Ids{0});
  EXPECT_EQ(tokenizer.decode(ids), "hello, world 日 本");
  EXPECT_EQ(tokenizer.decode(ids, false), "[CLS] hello, world 日 本 [MASK] [SEP]");
}

TEST(WordLevel, LooksWordsUp) {
  const Tokenizer tokenizer = parse_tokenizer(
      R"({"pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "WordLevel", "unk_token": "?",
          "vocab": {"?": 0, "hello": 1, ",": 2}}})");
  EXPECT_EQ(tokenizer.encode("hello, world hello"), (Ids{1, 2, 0, 1}));
}

// Files from before models had a type.
TEST(WordPiece, UntypedModelsAreKnownByTheirKeys) {
  EXPECT_EQ(parse_tokenizer(R"({"model": {"unk_token": "u", "continuing_subword_prefix": "#",
      "max_input_chars_per_word": 9, "vocab": {"u": 0, "a": 1, "#a": 2}}})")
                .encode("aa"),
            (Ids{1, 2}));
  EXPECT_EQ(
      parse_tokenizer(R"({"model": {"unk_token": "u", "vocab": {"u": 0, "aa": 1}}})").encode("aa"),
      Ids{1});
  EXPECT_EQ(
      parse_tokenizer(R"({"model": {"unk_id": 0, "vocab": [["u", 0], ["a", -1]]}})").encode("aa"),
      (Ids{1, 1}));
}

TEST(WordPieceThreads, PartsEqualTheWhole) {
  std::mt19937 random(5);
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += "un a,\n"[random() % 6];
  ThreadPool pool(3);
  for (const char* type : {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}) {
    const Tokenizer tokenizer = parse_tokenizer(
        file_of(R"({"[UNK]": 0, "u": 1, "##n": 2, "n": 3, "##u": 4, ",": 5, "a": 6})", 100, "##",
                fmt::format(R"("pre_tokenizer": {{"type": "{}"}},)", type)));
    EXPECT_TRUE(tokenizer.encode(text, pool) == tokenizer.encode(text)) << type;
  }
}

TEST(WordPiece, BrokenFilesAreErrors) {
  const auto error = [](std::string_view json) {
    const auto result = Tokenizer::parse(json, "t.json");
    return result ? std::string() : std::string(result.error().what());
  };
  EXPECT_EQ(error(file_of(R"({"a": 0})")),
            "t.json.model.unk_token: expected a token of the vocabulary, found \"[UNK]\"");
  EXPECT_EQ(error(file_of(kVocabulary, -1)),
            "t.json.model.max_input_chars_per_word: expected an integer from 0 to "
            "9223372036854775807, found -1; is the file damaged?");
  EXPECT_EQ(error(R"({"model": {"type": "WordLevel", "unk_token": "a", "vocab": {"b": 0}}})"),
            "t.json.model.unk_token: expected a token of the vocabulary, found \"a\"");
  EXPECT_EQ(
      error(file_of(kVocabulary, 1, "##",
                    R"("post_processor": {"type": "BertProcessing", "sep": ["x"], "cls": 1},)")),
      "t.json.post_processor.cls: expected an array, found 1; is the file damaged?");
  EXPECT_EQ(error(file_of(kVocabulary, 1, "##",
                          R"("post_processor": {"type": "RobertaProcessing", "sep": ["x", 77],
                             "cls": ["y", 1]},)")),
            "t.json.post_processor: expected ids of tokens, up to 10, found 77");
}

}  // namespace
}  // namespace kvasir::text
