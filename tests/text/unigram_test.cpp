#include "text/unigram.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "base/thread_pool.h"
#include "text/parts.h"
#include "text/unicode.h"

namespace kvasir::text {
namespace {

using Ids = std::vector<TokenId>;
using Vocabulary = std::vector<std::pair<std::string, double>>;

std::string file_of(const Vocabulary& vocabulary, std::string_view more = R"("unk_id": 0)",
                    std::string_view pre_tokenizer = "null") {
  Json list = Json::array();
  for (const auto& [token, score] : vocabulary) list.push_back({token, score});
  return fmt::format(R"({{"pre_tokenizer": {}, "model": {{"type": "Unigram", {}, "vocab": {}}}}})",
                     pre_tokenizer, more, list.dump());
}

Ids encode(const Vocabulary& vocabulary, std::string_view text,
           std::string_view more = R"("unk_id": 0)") {
  return parse_tokenizer(file_of(vocabulary, more)).encode(text);
}

TEST(Unigram, FindsTheBestSegmentation) {
  const Vocabulary vocabulary = {{"<unk>", 0}, {"a", 0},  {"b", 0},   {"c", 0},    {"d", 0},
                                 {"cd", 1},    {"ab", 2}, {"abc", 5}, {"abcd", 10}};
  EXPECT_EQ(encode(vocabulary, "abcdacdxx"), (Ids{8, 1, 5, 0}));
  EXPECT_EQ(encode(vocabulary, "abc"), Ids{7});
  EXPECT_EQ(encode(vocabulary, ""), Ids{});
}

TEST(Unigram, OfEqualSegmentationsTheLongestLastTokenWins) {
  const Vocabulary vocabulary = {{"<unk>", -9}, {"a", -1}, {"aa", -1}, {"aaa", -2}};
  EXPECT_EQ(encode(vocabulary, "aaa"), Ids{3});  // -2, as a aa and aa a
  EXPECT_EQ(encode({{"<unk>", -9}, {"a", -1}, {"aa", -1}}, "aaa"), (Ids{1, 2}));
}

TEST(Unigram, UnknownCharactersAreOneToken) {
  const Vocabulary vocabulary = {{"<unk>", -1}, {"a", -1}, {"b", -2}};
  EXPECT_EQ(encode(vocabulary, "xéaxb漢"), (Ids{0, 1, 0, 2, 0}));
  // So is the text of the unknown token itself, with its unknown neighbours.
  EXPECT_EQ(encode(vocabulary, "x<unk>xa"), (Ids{0, 1}));
}

TEST(Unigram, UnknownCharactersMayBeATokenTogether) {
  // 30 for both as unknown beats 25 for the token, whose id they get all the same.
  EXPECT_EQ(encode({{"<unk>", 50}, {"xy", 25}, {"a", 40}}, "xyaxyx"), (Ids{1, 2, 0}));
}

TEST(Unigram, UnknownTextFallsBackToBytes) {
  const Vocabulary vocabulary = {{"<unk>", 0}, {"a", -1}, {"<0xC3>", 0}, {"<0xA9>", 0}};
  constexpr std::string_view kFallback = R"("unk_id": 0, "byte_fallback": true)";
  EXPECT_EQ(encode(vocabulary, "éaé", kFallback), (Ids{2, 3, 1, 2, 3}));
  EXPECT_EQ(encode(vocabulary, "éxa", kFallback), (Ids{0, 1}));  // no <0x78>: none of the run
  EXPECT_EQ(encode(vocabulary, "éa"), (Ids{0, 1}));
}

TEST(Unigram, ATokenThatStandsTwiceIsTheLaterOne) {
  const Tokenizer tokenizer =
      parse_tokenizer(file_of({{"<unk>", 0}, {"a", -1}, {"aa", -9}, {"a", -3}, {"b", -1}}));
  EXPECT_EQ(tokenizer.encode("aab"), (Ids{3, 3, 4}));
  EXPECT_EQ(tokenizer.token_to_id("a"), 3);
  EXPECT_EQ(tokenizer.id_to_token(1), "a");
  EXPECT_EQ(tokenizer.decode(Ids{1, 3, 2}), "a a aa");
}

// The package's reader multiplies digits and powers of ten, both rounded.
TEST(Unigram, ScoresAreRoundedTwice) {
  for (const double exact : {0.0, -1.0, -8.38261890411377, 100.5, 1e-5, 1e22}) {
    EXPECT_EQ(twice_rounded(exact), exact);
  }
  std::mt19937_64 random(3);
  int changed = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double score = -14.0 * static_cast<double>(random()) / 18446744073709551616.0;
    const double read = twice_rounded(score);
    EXPECT_LE(std::abs(read - score), std::abs(score) * 2.3e-16);
    changed += read != score ? 1 : 0;
  }
  EXPECT_GT(changed, 500);
  EXPECT_LT(changed, 2500);
  EXPECT_EQ(twice_rounded(1e-320), 1e-320);
}

// Viterbi over the whole word as the definition has it.
Ids by_definition(const Vocabulary& vocabulary, std::string_view word) {
  std::map<std::string, TokenId, std::less<>> ids;
  double lowest = 1e300;
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    ids[vocabulary[i].first] = static_cast<TokenId>(i);
    lowest = std::min(lowest, vocabulary[i].second);
  }
  struct Place {
    double score = 0;
    TokenId id = -1;
    size_t from = 0;
  };
  std::vector<Place> places(word.size() + 1);
  for (size_t at = 0; at < word.size(); at += static_cast<size_t>(utf8_size(word[at]))) {
    const auto consider = [&](size_t end, TokenId id, double score) {
      score += places[at].score;
      if (places[end].id < 0 || score > places[end].score) places[end] = {score, id, at};
    };
    const size_t next = at + static_cast<size_t>(utf8_size(word[at]));
    bool is_known = false;
    for (size_t end = at + 1; end <= std::min(word.size(), at + 24); ++end) {
      const auto found = ids.find(word.substr(at, end - at));
      if (found == ids.end()) continue;
      consider(end, found->second, vocabulary[static_cast<size_t>(found->second)].second);
      is_known = is_known || end == next;
    }
    if (!is_known) consider(next, 0, lowest - 10);
  }
  Ids out;
  for (size_t at = word.size(); at > 0; at = places[at].from) {
    if (places[at].id != 0 || out.empty() || out.back() != 0) out.push_back(places[at].id);
  }
  std::ranges::reverse(out);
  return out;
}

// Scores whose sums differ in the last bit only, settled places, unknown runs across them.
TEST(Unigram, LongWordsEqualTheDefinition) {
  for (unsigned seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    constexpr std::string_view kLetters[] = {"a", "b", "é", "漢", "😀"};
    Vocabulary vocabulary = {{"<unk>", -0.5}};
    std::map<std::string, bool> seen;
    for (int i = 0; i < 60; ++i) {
      std::string token;
      for (size_t size = 1 + random() % 6; size > 0; --size) token += kLetters[random() % 4];
      // Few decimals: read alike by everyone.
      const double score = -0.1 * static_cast<double>(1 + random() % 40);
      if (!seen[token]) vocabulary.emplace_back(token, std::round(score * 10) / 10);
      seen[token] = true;
    }
    std::string word;
    for (int i = 0; i < 3000; ++i) word += kLetters[random() % 5];
    EXPECT_EQ(encode(vocabulary, word), by_definition(vocabulary, word));
  }
}

TEST(UnigramThreads, PartsEqualTheWhole) {
  const Vocabulary vocabulary = {{"<unk>", -9}, {"▁", -1},    {"a", -2},    {"b", -3},
                                 {"▁a", -2.5},  {"ab", -3.5}, {"b▁", -1.5}, {"▁▁", -1.25}};
  ThreadPool pool(3);
  std::mt19937 random(5);
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += "ab c"[random() % 4];
  for (const char* metaspace :
       {R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})",
        R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"})",
        R"({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": false})",
        R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]})"}) {
    const Tokenizer tokenizer = parse_tokenizer(file_of(vocabulary, R"("unk_id": 0)", metaspace));
    EXPECT_TRUE(tokenizer.encode(text, pool) == tokenizer.encode(text)) << metaspace;
  }
}

TEST(Unigram, BrokenFilesAreErrors) {
  const auto error = [](std::string_view model) {
    const auto result =
        Tokenizer::parse(fmt::format(R"({{"model": {{"type": "Unigram", {}}}}})", model), "t.json");
    return result ? std::string() : std::string(result.error().what());
  };
  EXPECT_EQ(
      error(R"("vocab": [["a", 0]])"),
      "t.json.model: expected an object with the key \"unk_id\", found an object with the keys "
      "[type, vocab]; is the file damaged?");
  EXPECT_EQ(error(R"("unk_id": 1, "vocab": [["a", 0]])"),
            "t.json.model.unk_id: expected an integer from 0 to 0, found 1; is the file damaged?");
  EXPECT_EQ(
      error(R"("unk_id": null, "vocab": [["a", 0]])"),
      "t.json.model.unk_id: expected an integer from 0 to 0, found null; is the file damaged?");
  EXPECT_EQ(error(R"("unk_id": 0, "vocab": [["a", "b"]])"),
            "t.json.model.vocab[0]: expected [token, score], found array; is the file damaged?");
  EXPECT_EQ(error(R"("unk_id": 0, "vocab": [])"),
            "t.json.model.vocab: expected 1 to 4194303 tokens, found array; is the file damaged?");
  EXPECT_EQ(error(R"("unk_id": 0, "vocab": {"a": 0})"),
            "t.json.model.vocab: expected an array, found an object with the keys [a]; is the file "
            "damaged?");
}

}  // namespace
}  // namespace kvasir::text
