// Shards and the corpus made of them: what is written is read, damage is seen, work is done once.

#include "data/corpus.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <random>

#include "base/thread_pool.h"
#include "data/bpe_trainer.h"
#include "data/sha256.h"
#include "formats/files.h"
#include "text/tokenizer.h"

namespace kvasir::data {
namespace {

using formats::TemporaryFolder;

std::vector<int32_t> all(const TokenView& view) {
  std::vector<int32_t> tokens(static_cast<size_t>(view.size()));
  view.copy(0, tokens);
  return tokens;
}

TEST(Shard, IsReadBackAsWritten) {
  const TemporaryFolder folder;
  const std::vector<TextToWrite> texts = {{"one", {1, 2, 65535}}, {"", {}}, {"three", {7}}};
  for (const int64_t vocab_size : {65536, 65537}) {
    const auto path = folder.path() / std::to_string(vocab_size);
    write_shard(path, sha256_hex("x"), texts, vocab_size).value();
    const Shard shard = Shard::open(path).value();
    EXPECT_EQ(shard.source(), sha256_hex("x"));
    ASSERT_EQ(shard.texts().size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(shard.texts()[i].name, texts[i].name);
      EXPECT_EQ(all(shard.texts()[i].tokens), texts[i].tokens);
    }
    std::vector<int32_t> part(2);
    shard.texts()[0].tokens.copy(1, part);
    EXPECT_EQ(part, (std::vector<int32_t>{2, 65535}));
    EXPECT_THROW(shard.texts()[0].tokens.copy(2, part), Error);
  }
  // 2 bytes a token where they are enough.
  EXPECT_LT(std::filesystem::file_size(folder.path() / "65536"),
            std::filesystem::file_size(folder.path() / "65537"));
}

TEST(Shard, EveryDamagedByteIsSeen) {
  const TemporaryFolder folder;
  const std::vector<TextToWrite> texts = {{"one", {1, 2, 3}}, {"two", {4, 5}}};
  write_shard(folder.path() / "s", sha256_hex("x"), texts, 100).value();
  const std::string bytes = read_file(folder.path() / "s").value();
  const auto parse = [](const std::string& content) {
    return parse_shard(std::as_bytes(std::span(content)), "s");
  };
  ASSERT_TRUE(parse(bytes));
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i >= 48 && i < 64) continue;  // reserved
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_FALSE(parse(damaged)) << "byte " << i;
  }
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(parse(bytes.substr(0, size))) << size;
  EXPECT_FALSE(parse(bytes + "x"));
}

class CorpusTest : public testing::Test {
 protected:
  void SetUp() override {
    texts_ = {{"a", "one two three, two one.\n"},
              {"b", std::string("The end.\n") + "é"},
              {"c", ""},
              {"d", "<|end|> is no token here\n"}};
    for (const auto& [name, text] : texts_) folder_.write(name + ".txt", text);
    WordCounts words;
    words.add("one", int64_t{3});
    words.add(" two", int64_t{3});
    folder_.write("tokenizer.json", tokenizer_json(train_bpe(words, chat_tokens(), 300), true));
    options_ = {.manifest = make_manifest(folder_.path(), pool_).value(),
                .folder = folder_.path(),
                .tokenizer_json = folder_.path() / "tokenizer.json",
                .shards = folder_.path() / "cache/shards",
                .shard_bytes = 20};
  }

  Corpus open() { return Corpus::open(options_, pool_).value(); }

  TemporaryFolder folder_;
  ThreadPool pool_{2};
  std::map<std::string, std::string> texts_;
  CorpusOptions options_;
};

TEST_F(CorpusTest, HoldsTheTokensOfTheTexts) {
  const Corpus corpus = open();
  EXPECT_EQ(corpus.shards(), 2u);
  ASSERT_EQ(corpus.size(), texts_.size());
  const auto tokenizer = text::Tokenizer::load(options_.tokenizer_json).value();
  int64_t total = 0;
  for (size_t i = 0; i < corpus.size(); ++i) {
    const std::vector<int32_t> tokens = all(corpus.tokens(i));
    EXPECT_EQ(tokenizer.decode(tokens, false), texts_[corpus.name(i)]);
    for (const int32_t token : tokens) EXPECT_FALSE(tokenizer.is_special(token));
    EXPECT_EQ(corpus.find(corpus.name(i)), &corpus.tokens(i));
    total += corpus.tokens(i).size();
  }
  EXPECT_EQ(corpus.total_tokens(), total);
  EXPECT_EQ(corpus.find("e"), nullptr);
}

TEST_F(CorpusTest, IsBuiltOnceAndNeedsNoTextsThen) {
  int64_t told = 0;
  const auto corpus =
      Corpus::open(options_, pool_, [&](int64_t done, int64_t all) { told = done * 1000 / all; });
  EXPECT_EQ(corpus.value().shards_built(), 2);
  EXPECT_EQ(told, 1000);
  const std::string source = corpus.value().source();
  for (const auto& [name, text] : texts_) std::filesystem::remove(title_path(folder_.path(), name));
  EXPECT_EQ(open().shards_built(), 0);
  EXPECT_EQ(open().source(), source);
}

TEST_F(CorpusTest, BuildsAnewWhatIsDamagedOrOfOtherTexts) {
  const std::string source = open().source();
  for (const auto& entry : std::filesystem::directory_iterator(options_.shards)) {
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('\x7f');
    break;
  }
  EXPECT_EQ(open().shards_built(), 1);
  folder_.write("d.txt", "changed");
  options_.manifest = make_manifest(folder_.path(), pool_).value();
  const Corpus changed = open();
  EXPECT_EQ(changed.shards_built(), 1);
  EXPECT_NE(changed.source(), source);
  WordCounts words;
  folder_.write("tokenizer.json", tokenizer_json(train_bpe(words, chat_tokens(), 300), true));
  EXPECT_EQ(open().shards_built(), 2);
}

TEST_F(CorpusTest, RefusesOtherTextsThanTheManifests) {
  folder_.write("d.txt", "changed");
  const auto corpus = Corpus::open(options_, pool_);
  ASSERT_FALSE(corpus);
  EXPECT_NE(std::string(corpus.error().what()).find("d.txt: expected"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(options_.shards));
}

// A limit on the size of files stands for a full disk: the message names the file and the reason,
// and nothing is left.
TEST_F(CorpusTest, AFullDiskIsOneMessageAndLeavesNothing) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{16, limit.rlim_max};
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto corpus = Corpus::open(options_, pool_);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::signal(SIGXFSZ, before);
  ASSERT_FALSE(corpus);
  EXPECT_EQ(corpus.error().code(), ErrorCode::kIo);
  const std::string said = corpus.error().what();
  EXPECT_NE(said.find(".shard: cannot write: "), std::string::npos) << said;
  EXPECT_TRUE(std::filesystem::is_empty(options_.shards));
  EXPECT_EQ(open().shards_built(), 2);
}

}  // namespace
}  // namespace kvasir::data
