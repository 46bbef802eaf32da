// From a recipe to tokenizer and corpus: made once, of the titles that are not held out.

#include "data/prepare.h"

#include <gtest/gtest.h>

#include <set>

#include "base/thread_pool.h"
#include "data/batch_source.h"
#include "data/task_samples.h"
#include "formats/files.h"
#include "text/tokenizer.h"

namespace kvasir::data {
namespace {

class PrepareTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 300; ++i) {
      texts_["a"] += "common words of the first text\n";
      texts_["b"] += "zebra zebra zebra\n";
    }
    std::filesystem::create_directories(corpus_);
    for (const auto& [name, text] : texts_) write_file(title_path(corpus_, name), text).value();
    save_manifest();
    recipe_.data.manifest = folder_.path() / "books.json";
    recipe_.data.held_out = {"b"};
    recipe_.tokenizer.vocab_size = 280;
    recipe_.phases.push_back({.sequence = 64, .tokens = 640, .batch_tokens = 64});
    options_ = {
        .corpus = corpus_,
        .output = folder_.path() / "out",
        .progress = [this](PrepareStage stage, int64_t, int64_t) { stages_.insert(stage); }};
  }

  void save_manifest() {
    folder_.write("books.json", manifest_json(make_manifest(corpus_, pool_).value()));
  }
  Prepared run() {
    stages_.clear();
    return prepare(recipe_, options_, pool_).value();
  }
  std::string refusal() {
    const auto prepared = prepare(recipe_, options_, pool_);
    return prepared ? "" : prepared.error().what();
  }

  formats::TemporaryFolder folder_;
  const std::filesystem::path corpus_ = folder_.path() / "corpus";
  std::map<std::string, std::string> texts_;
  ThreadPool pool_{2};
  Recipe recipe_;
  PrepareOptions options_;
  std::set<PrepareStage> stages_;
};

TEST_F(PrepareTest, MakesEverythingOnce) {
  const Prepared first = run();
  EXPECT_EQ(stages_.size(), 3u);
  EXPECT_EQ(first.corpus.size(), 2u);
  EXPECT_EQ(first.training_texts, std::vector{title_path(corpus_, "a")});
  EXPECT_EQ(first.held_out_texts, std::vector{title_path(corpus_, "b")});
  const Prepared second = run();
  EXPECT_TRUE(stages_.empty());
  EXPECT_EQ(second.tokenizer, first.tokenizer);
  EXPECT_EQ(second.corpus.source(), first.corpus.source());
}

TEST_F(PrepareTest, TheTokenizerSeesNoHeldOutTitle) {
  const auto words = [&](const Prepared& prepared) {
    const auto tokenizer = text::Tokenizer::load(prepared.tokenizer / "tokenizer.json").value();
    std::string all;
    for (int id = 261; id < tokenizer.vocab_size(); ++id)
      all += std::string(tokenizer.id_to_token(id)) + " ";
    return all;
  };
  EXPECT_EQ(words(run()).find("ze"), std::string::npos);
  // A change of what is held out changes the text too; else the tokenizer stays what it was.
  write_file(title_path(corpus_, "b"), "something else\n").value();
  save_manifest();
  run();
  EXPECT_EQ(stages_, std::set<PrepareStage>{PrepareStage::kShards});
  write_file(title_path(corpus_, "b"), texts_["b"]).value();
  save_manifest();
  recipe_.data.held_out = {};
  EXPECT_NE(words(run()).find("ze"), std::string::npos);
}

TEST_F(PrepareTest, TakesATokenizerThatIsThere) {
  recipe_.tokenizer = {.from = run().tokenizer};
  options_.output = folder_.path() / "other";
  EXPECT_EQ(run().tokenizer, recipe_.tokenizer.from);
  EXPECT_EQ(stages_, std::set<PrepareStage>{PrepareStage::kShards});
  const auto trained = train_tokenizer(recipe_, {}, options_, pool_);
  ASSERT_FALSE(trained);
  EXPECT_NE(std::string(trained.error().what()).find("tokenizer.from"), std::string::npos);
}

TEST_F(PrepareTest, SaysWhatIsMissing) {
  recipe_.data.held_out = {"c"};
  EXPECT_NE(refusal().find("data.held_out: expected titles of the manifest, found 'c'"),
            std::string::npos);
  recipe_.data.held_out = {};
  options_.corpus.clear();
  EXPECT_NE(refusal().find("--corpus DIR"), std::string::npos);
  recipe_.data.corpus = folder_.path() / "nowhere";
  EXPECT_NE(refusal().find("nowhere: expected a folder of texts"), std::string::npos);
  recipe_.data.manifest = folder_.path() / "none.json";
  EXPECT_NE(refusal().find("none.json: cannot open"), std::string::npos);
}

// The recipes that are checked in can be read, and their manifests, too.
TEST(Recipes, AreSound) {
  int64_t count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(KVASIR_SOURCE_DIR) / "recipes")) {
    if (entry.path().extension() != ".toml") continue;
    const auto recipe = load_recipe(entry.path(), task_names());
    ASSERT_TRUE(recipe) << recipe.error().what();
    EXPECT_TRUE(check_share(recipe.value(), {.rank = 0, .processes = 8})) << entry.path();
    ++count;
    if (recipe.value().tokenizer.is_tiny) continue;  // no texts
    const auto manifest = load_manifest(recipe.value().data.manifest);
    ASSERT_TRUE(manifest) << manifest.error().what();
    for (const std::string& title : recipe.value().data.held_out)
      EXPECT_NE(manifest.value().find(title), nullptr) << title;
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace kvasir::data
