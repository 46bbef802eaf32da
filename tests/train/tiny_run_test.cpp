// A whole run by recipe, from nothing to a model folder: two layers learn recall.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "formats/model_config.h"
#include "text/tokenizer.h"
#include "train/models.h"
#include "train/run.h"

namespace kvasir::train {
namespace {

constexpr const char* kRecipe = R"(
[model]
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 1
head_dim = 64
rope_theta = 100000
init_std = 0.12
[tokenizer]
kind = "tiny-v1"
[data]
mixture = { mqar = 1 }
least_sample = 64
full_fraction = 1
[[phase]]
sequence = 2048
longest_sample = 64
tokens = 1_230_000
batch_tokens = 2048
[optimizer]
learning_rate = 4e-3
[schedule]
name = "wsd"
[precision]
compute = "f32"
[evaluation]
task_tokens = 8192
)";

TEST(FullTinyRun, RecallIsLearned) {
  const testing::TemporaryFolder folder;
  write_file(folder / "recall.toml", kRecipe).value();
  const std::filesystem::path checkpoint = run_recipe({.recipe = folder / "recall.toml",
                                                       .corpus = {},
                                                       .output = folder / "run",
                                                       .device = "cpu",
                                                       .threads = 1,
                                                       .meeting = {},
                                                       .say = nullptr,
                                                       .stop = nullptr});
  EXPECT_EQ(formats::load_model_config(checkpoint).value().vocab_size, 128);
  EXPECT_EQ(text::Tokenizer::load(checkpoint / "tokenizer.json").value().vocab_size(), 128);
  nlohmann::json measured;
  std::istringstream lines(read_file(folder / "run/log.jsonl").value());
  for (std::string line; std::getline(lines, line);)
    if (const auto json = nlohmann::json::parse(line); json.contains("accuracy")) measured = json;
  ASSERT_EQ(measured.value("evaluation", ""), "mqar");
  EXPECT_EQ(measured.value("answers", 0), 8192 / 64 * 4);
  // Two of an answer's three tokens are one of 64: chance is 2.77 nats.
  EXPECT_LT(measured.value("answer_loss", 9.0), 2.2);
  EXPECT_GT(measured.value("accuracy", 0.0), 0.02);  // by chance one of 4,096
}

}  // namespace
}  // namespace kvasir::train
