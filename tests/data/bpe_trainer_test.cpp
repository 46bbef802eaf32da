// Training of a byte-level BPE: small cases by hand, and against the package `tokenizers`.

#include "data/bpe_trainer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>

#include "base/thread_pool.h"
#include "formats/files.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace kvasir::data {
namespace {

using formats::TemporaryFolder;

const std::filesystem::path kSource = KVASIR_SOURCE_DIR;

Bpe train_on(const std::vector<std::pair<std::string, int64_t>>& words, int64_t vocab_size) {
  WordCounts counts;
  for (const auto& [word, count] : words) counts.add(word, count);
  return train_bpe(counts, chat_tokens(), vocab_size);
}

std::vector<std::string> merged_tokens(const Bpe& bpe) {
  return {bpe.tokens.begin() + 261, bpe.tokens.end()};
}

TEST(BpeTrainer, MergesTheMostFrequentPairFirst) {
  const Bpe bpe = train_on({{"abab", 5}, {"cab", 3}, {"cd", 4}}, 265);
  EXPECT_EQ(bpe.tokens[0], "<|begin|>");
  EXPECT_EQ(bpe.tokens[5], "!");
  // ab: 13; then abab 5, cd 4, cab 3.
  EXPECT_EQ(merged_tokens(bpe), (std::vector<std::string>{"ab", "abab", "cd", "cab"}));
}

TEST(BpeTrainer, TiesGoToTheLowestIds) {
  const Bpe bpe = train_on({{"zy", 2}, {"by", 2}, {"bx", 2}}, 264);
  EXPECT_EQ(merged_tokens(bpe), (std::vector<std::string>{"bx", "by", "zy"}));
}

TEST(BpeTrainer, EndsWherePairsEnd) {
  EXPECT_EQ(merged_tokens(train_on({{"aaaa", 1}, {"b", 9}}, 1000)),
            (std::vector<std::string>{"aa", "aaaa"}));
  EXPECT_EQ(train_on({}, 1000).tokens.size(), 261u);
}

TEST(BpeTrainer, FilesAreReadByTheTokenizerAndTheTemplate) {
  const Bpe bpe = train_on({{"hello", 5}, {" world", 3}}, 270);
  const auto tokenizer = text::Tokenizer::parse(tokenizer_json(bpe, true), "test").value();
  EXPECT_EQ(tokenizer.vocab_size(), static_cast<int>(bpe.tokens.size()));
  const std::string text = "hello world, 1234 <|end|>";
  const auto ids = tokenizer.encode(text);
  EXPECT_EQ(ids.front(), 0);
  EXPECT_EQ(ids.back(), 1);
  EXPECT_EQ(tokenizer.decode(ids, false), "<|begin|>" + text);
  const auto config = nlohmann::json::parse(tokenizer_config_json(65536));
  EXPECT_EQ(config["model_max_length"], 65536);
  EXPECT_EQ(config["bos_token"], "<|begin|>");
}

TEST(WordCounts, CutsLikeTheExpression) {
  const TemporaryFolder folder;
  ThreadPool pool(1);
  const std::vector<std::filesystem::path> files{
      folder.write("a.txt", "It's 1234 times\n\nnever, never!\n")};
  const auto words_of = [&](bool single_digits) {
    const WordCounts counts = count_words(files, single_digits, pool).value();
    std::map<std::string, int64_t> words;
    for (size_t i = 0; i < counts.size(); ++i) words[std::string(counts.word(i))] = counts.count(i);
    return words;
  };
  EXPECT_EQ(words_of(false), (std::map<std::string, int64_t>{{"It", 1},
                                                             {"'s", 1},
                                                             {" ", 1},
                                                             {"123", 1},
                                                             {"4", 1},
                                                             {" times", 1},
                                                             {"\n\n", 1},
                                                             {"never", 1},
                                                             {",", 1},
                                                             {" never", 1},
                                                             {"!\n", 1}}));
  EXPECT_EQ(words_of(true).count("123"), 0u);
  EXPECT_EQ(words_of(true)["3"], 1);
}

TEST(WordCounts, RefusesWhatIsNoText) {
  const TemporaryFolder folder;
  ThreadPool pool(1);
  const std::vector<std::filesystem::path> files{folder.write("a.txt", "ab\xff")};
  const auto counts = count_words(files, true, pool);
  ASSERT_FALSE(counts);
  EXPECT_EQ(counts.error().code(), ErrorCode::kMalformed);
  EXPECT_NE(std::string(counts.error().what()).find("a.txt"), std::string::npos);
}

// Words of few letters, so that many pairs are equally frequent and runs overlap; other scripts;
// digits; marks; long lines and empty ones.
std::string random_text(std::mt19937& random, size_t bytes) {
  const std::vector<std::string> odd = {"é",      "ß",  "日本", "한글",   "🜁",    "…",
                                        "\u00a0", "\t", "''",   "--",     "\r\n", "\n\n\n",
                                        "  ",     "12", "3.14", "e\u0301"};
  std::string text;
  while (text.size() < bytes) {
    const int kind = static_cast<int>(random() % 12);
    if (kind == 0) text += odd[random() % odd.size()];
    if (kind == 1) text += "\n";
    if (kind == 2) text += ", ";
    if (kind > 2) {
      const size_t letters = 1 + random() % 7;
      for (size_t i = 0; i < letters; ++i)
        text += static_cast<char>((random() % 9 == 0 ? 'A' : 'a') + random() % 5);
      text += ' ';
    }
  }
  return text;
}

// Many threads, files of several pieces: the counts of one thread.
TEST(WordCountsThread, PiecesAndThreadsCountTheSame) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  const TemporaryFolder folder;
  const std::string text = random_text(random, (size_t{5} << 20) / 2);
  const std::vector<std::filesystem::path> files{folder.write("a.txt", text),
                                                 folder.write("b.txt", "short\nfile")};
  ThreadPool one(1), four(4);
  const WordCounts counts = count_words(files, true, four).value();
  // The text once more, in files that are too small to be cut.
  WordCounts expected;
  std::vector<std::filesystem::path> lines{files[1]};
  for (size_t begin = 0, n = 0; begin < text.size(); ++n) {
    size_t end = std::min(text.size(), begin + 300000);
    while (end < text.size() && !(text[end - 1] == '\n' && std::isalpha(text[end]))) ++end;
    lines.push_back(folder.write("line" + std::to_string(n), text.substr(begin, end - begin)));
    begin = end;
  }
  expected = count_words(lines, true, one).value();
  ASSERT_EQ(counts.size(), expected.size());
  std::map<std::string_view, int64_t> by_word;
  for (size_t i = 0; i < counts.size(); ++i) by_word[counts.word(i)] = counts.count(i);
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_EQ(by_word[expected.word(i)], expected.count(i)) << expected.word(i);
}

nlohmann::json oracle(const TemporaryFolder& folder, const std::string& first,
                      const std::string& second, const std::vector<std::filesystem::path>& files) {
  const auto out = folder.path() / "oracle.json";
  std::string command = (kSource / ".venv-oracle/bin/python").string() + " " +
                        (kSource / "tests/data/bpe_oracle.py").string() + " " + out.string() +
                        " '" + first + "' \"$EXPRESSION\"";
  ::setenv("EXPRESSION", second.c_str(), 1);
  for (const auto& file : files) command += " " + file.string();
  EXPECT_EQ(std::system(command.c_str()), 0);
  return nlohmann::json::parse(read_file(out).value());
}

// The merges of the package on the same files, and the ids that it gives with the written file.
void compare(const TemporaryFolder& folder, const std::vector<std::filesystem::path>& files,
             int64_t vocab_size, bool single_digits) {
  ThreadPool pool(2);
  const WordCounts words = count_words(files, single_digits, pool).value();
  const Bpe bpe = train_bpe(words, chat_tokens(), vocab_size);
  const auto expected =
      oracle(folder, std::to_string(vocab_size), split_expression(single_digits), files);
  ASSERT_EQ(bpe.tokens, expected["tokens"].get<std::vector<std::string>>());
  std::vector<std::pair<std::string, std::string>> merges;
  for (const auto& [left, right] : bpe.merges)
    merges.emplace_back(bpe.tokens[static_cast<size_t>(left)],
                        bpe.tokens[static_cast<size_t>(right)]);
  ASSERT_EQ(merges, (expected["merges"].get<std::vector<std::pair<std::string, std::string>>>()));

  const auto file = folder.write("tokenizer.json", tokenizer_json(bpe, single_digits));
  const auto ids = oracle(folder, file.string(), "encode", files);
  const auto tokenizer = text::Tokenizer::load(file).value();
  for (size_t i = 0; i < files.size(); ++i)
    EXPECT_EQ(tokenizer.encode(read_file(files[i]).value()),
              ids[i].get<std::vector<text::TokenId>>());
}

class BpeTrainerOracle : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kSource / ".venv-oracle/bin/python"))
      GTEST_SKIP() << "no oracle environment: ./dev test installs it";
  }
  TemporaryFolder folder_;
};

TEST_F(BpeTrainerOracle, Book) {
  compare(folder_, {kSource / "examples/frankenstein.txt"}, 3000, true);
}

TEST_F(BpeTrainerOracle, RandomTextsWithManyTies) {
  for (int round = 0; round < 4; ++round) {
    const unsigned seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<std::filesystem::path> files;
    for (int i = 0; i < 3; ++i)
      files.push_back(folder_.write("text" + std::to_string(i),
                                    random_text(random, size_t{2000} << (2 * round))));
    compare(folder_, files, 700 + 500 * round, round % 2 == 0);
  }
}

}  // namespace
}  // namespace kvasir::data
