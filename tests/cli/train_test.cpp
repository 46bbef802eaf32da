// `kvasir train tokenizer | data | manifest` on a small corpus, and what they refuse.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/exit_codes.h"
#include "harness.h"

namespace kvasir::cli {
namespace {

class TrainCommand : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(corpus_);
    for (const char* name : {"a", "b"}) {
      std::string text;
      for (int i = 0; i < 200; ++i)
        text += std::string(name) + " line number " + std::to_string(i) + ".\n";
      write(corpus_ / (std::string(name) + ".txt"), text);
    }
    ASSERT_EQ(run({"train", "manifest", "--corpus", corpus_, "-o", folder_ / "books.json"}).code,
              0);
    write(recipe_, R"(
[model]
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4
head_dim = 16
rope_theta = 10000
[tokenizer]
vocab_size = 270
[data]
manifest = "books.json"
held_out = ["b"]
mixture = { books = 3, kv = 1 }
[[phase]]
sequence = 128
tokens = 10000
batch_tokens = 1024
[optimizer]
learning_rate = 1e-3
)");
  }

  static void write(const std::filesystem::path& path, const std::string& text) {
    std::filesystem::rename(temporary_file("text", text), path);
  }
  std::vector<std::string> with(const std::string& what) const {
    return {"train", what, "--recipe", recipe_, "--corpus", corpus_, "-o", folder_ / "out"};
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(temporary_folder()) /
      testing::UnitTest::GetInstance()->current_test_info()->name();
  const std::filesystem::path corpus_ = folder_ / "corpus", recipe_ = folder_ / "run.toml";
};

TEST_F(TrainCommand, WritesATokenizer) {
  const Outcome outcome = run(with("tokenizer"));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("tokenizer.json: 270 tokens\n"), std::string::npos) << outcome.out;
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/tokenizer.json"));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "out/tokenizer_config.json"));
}

TEST_F(TrainCommand, PreparesDataOnce) {
  const Outcome first = run(with("data"));
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_NE(first.out.find("2, 1 held out"), std::string::npos) << first.out;
  EXPECT_NE(first.out.find("books 75%, kv 25%"), std::string::npos) << first.out;
  auto arguments = with("data");
  arguments.push_back("--json");
  const Outcome second = run(arguments);
  ASSERT_EQ(second.code, 0) << second.err;
  const auto json = nlohmann::json::parse(second.out);
  EXPECT_EQ(json["shards_built"], 0);
  EXPECT_EQ(json["steps"], 10);
  EXPECT_EQ(json["vocab_size"], 270);
  EXPECT_GT(json["training_tokens"], 128);
}

// The family's vocabulary is all that is made, and none is trained.
TEST_F(TrainCommand, TinyRecipesNeedNoCorpus) {
  const std::string recipe = std::string(KVASIR_SOURCE_DIR) + "/recipes/t5.toml";
  const Outcome outcome =
      run({"train", "data", "--recipe", recipe, "-o", folder_ / "tiny", "--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["vocab_size"], 128);
  EXPECT_EQ(json["titles"], 0);
  EXPECT_EQ(json["phases"].size(), 5u);
  const Outcome refused = run({"train", "tokenizer", "--recipe", recipe, "-o", folder_ / "tiny"});
  EXPECT_EQ(refused.code, kExitUsage);
  EXPECT_NE(refused.err.find("tiny-v1"), std::string::npos) << refused.err;
}

TEST_F(TrainCommand, SaysWhatIsWrong) {
  write(corpus_ / "a.txt", "changed");
  Outcome outcome = run(with("data"));
  EXPECT_EQ(outcome.code, kExitMalformed);
  EXPECT_NE(outcome.err.find("a.txt: expected"), std::string::npos) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out"));
  write(recipe_, "sed = 3\n");
  outcome = run(with("tokenizer"));
  EXPECT_EQ(outcome.code, kExitMalformed);
  EXPECT_NE(outcome.err.find("run.toml"), std::string::npos) << outcome.err;
}

TEST_F(TrainCommand, ChecksItsOptions) {
  const auto said = [](const std::vector<std::string>& arguments) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, kExitUsage);
    return outcome.err;
  };
  EXPECT_NE(said({"train"}).find("tokenizer|data|manifest"), std::string::npos);
  EXPECT_NE(said({"train", "dat"}).find("did you mean 'data'?"), std::string::npos);
  EXPECT_NE(said({"train", "data"}).find("--recipe FILE"), std::string::npos);
  EXPECT_NE(said({"train", "data", "--recipe", "x"}).find("--output DIR"), std::string::npos);
  EXPECT_NE(said({"train", "manifest", "-o", "x"}).find("--corpus DIR"), std::string::npos);
  EXPECT_NE(said({"train", "manifest", "--recipe", "x"}).find("--recipe: expected none"),
            std::string::npos);
  const auto said_of_run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"train", "run", "--recipe", "x", "-o", "y"});
    return said(more);
  };
  EXPECT_NE(
      said_of_run({"--processes", "2", "--rank", "2", "--meet", "f"}).find("--rank: expected"),
      std::string::npos);
  EXPECT_NE(said_of_run({"--processes", "2", "--rank", "0"}).find("together"), std::string::npos);
  EXPECT_NE(said_of_run({"--processes", "2", "--meet", "f"}).find("together"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::cli
