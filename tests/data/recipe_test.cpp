// Recipes: what a good one reads as, and one message with file, line and field for each bad one.

#include "data/recipe.h"

#include <gtest/gtest.h>

#include "formats/files.h"

namespace kvasir::data {
namespace {

const std::vector<std::string> kTasks = {"kv", "needle", "variables"};

const std::string kGood = R"(seed = 7

[model]
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 16
rope_theta = 500000

[tokenizer]
vocab_size = 512

[data]
manifest = "books.json"
held_out = ["b", "a"]

[data.mixture]
books = 0.5
needle = 0.25
kv = 0

[[phase]]
sequence = 1024
tokens = 100_000
batch_tokens = 8192

[[phase]]
sequence = 4096
tokens = 1000000
batch_tokens = 8192
learning_rate_scale = 0.5
mixture = { kv = 1 }

[optimizer]
name = "muon"
learning_rate = 1e-3
)";

Result<Recipe> parse(const std::string& text) {
  return parse_recipe(text, "recipes/small.toml", "recipes", kTasks);
}

TEST(Recipe, ReadsWhatIsThereAndDefaults) {
  const Recipe recipe = parse(kGood).value();
  EXPECT_EQ(recipe.name, "small");
  EXPECT_EQ(recipe.seed, 7u);
  EXPECT_EQ(recipe.model.hidden_size, 64);
  EXPECT_TRUE(recipe.model.tie_word_embeddings);
  EXPECT_EQ(recipe.model.rope_theta, 500000);
  EXPECT_TRUE(recipe.tokenizer.from.empty());
  EXPECT_EQ(recipe.data.manifest, "recipes/books.json");
  EXPECT_EQ(recipe.data.held_out, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(recipe.data.mixture, (Mixture{{"books", 0.5}, {"needle", 0.25}}));
  ASSERT_EQ(recipe.phases.size(), 2u);
  EXPECT_EQ(recipe.phases[0].mixture, recipe.data.mixture);
  EXPECT_EQ(recipe.phases[1].mixture, (Mixture{{"kv", 1}}));
  EXPECT_EQ(recipe.phases[0].steps(), 13);
  EXPECT_EQ(recipe.phases[0].sequences_of_step(), 8);
  EXPECT_EQ(recipe.steps(), 13 + 123);
  EXPECT_EQ(recipe.longest_sequence(), 4096);
  EXPECT_EQ(recipe.optimizer.name, OptimizerName::kMuon);
  EXPECT_EQ(recipe.schedule.name, ScheduleName::kCosine);
  EXPECT_EQ(recipe.precision.compute, Precision::kBf16);
  EXPECT_EQ(recipe.evaluation.lengths, (std::vector<int64_t>{1024, 4096}));
}

TEST(Recipe, StartsFromFolders) {
  std::string text = kGood;
  text.replace(text.find("hidden_size"), text.find("[data]") - text.find("hidden_size"),
               "from = \"../models/base\"\n[tokenizer]\nfrom = \"/tokenizer\"\n");
  const Recipe recipe = parse(text).value();
  EXPECT_EQ(recipe.model.from, "models/base");
  EXPECT_EQ(recipe.tokenizer.from, "/tokenizer");
}

struct Fault {
  const char* name;
  const char* from;
  const char* to;
  const char* message;  // begins the error
};

class RecipeFaults : public testing::TestWithParam<Fault> {};

TEST_P(RecipeFaults, IsOneClearMessage) {
  const Fault& fault = GetParam();
  std::string text = kGood;
  const size_t place = text.find(fault.from);
  ASSERT_NE(place, std::string::npos);
  text.replace(place, std::string_view(fault.from).size(), fault.to);
  const auto recipe = parse(text);
  ASSERT_FALSE(recipe);
  EXPECT_EQ(recipe.error().code(), ErrorCode::kMalformed);
  const std::string said = recipe.error().what();
  EXPECT_TRUE(said.starts_with("recipes/small.toml" + std::string(fault.message))) << said;
  EXPECT_EQ(said.find('\n'), std::string::npos) << said;
}

INSTANTIATE_TEST_SUITE_P(
    All, RecipeFaults,
    testing::Values(
        Fault{"Syntax", "hidden_size = 64", "hidden_size = = 64", ":4: expected TOML, column 1"},
        Fault{"ControlCharacter", "[[phase]]", "[[\x05phase]]",
              ": expected TOML, found something else in place of a key or value"},
        Fault{"UnknownKey", "hidden_size = 64", "hiden_size = 64",
              ":3: model.hidden_size: expected a whole number, found nothing but 'hiden_size'"},
        Fault{"NearKey", "seed = 7", "sede = 7", ":1: sede: unknown key; did you mean 'seed'?"},
        Fault{"KeyOfSection", "rope_theta = 500000", "rope_theta = 5e5\nlayers = 4",
              ":11: model.layers: unknown key; known here: from, hidden_size"},
        Fault{"KeyOfPhase", "learning_rate_scale", "learning_rate_scal",
              ":33: phase[1].learning_rate_scal: unknown key; did you mean 'learning_rate_scale'?"},
        Fault{"KeyOfOtherOptimizer", "\"muon\"", "\"adamw\"\nmomentum = 0.9",
              ":38: optimizer.momentum: unknown key"},
        Fault{"ShapeBesideFrom", "hidden_size = 64", "from = \"x\"\nhidden_size = 64",
              ":5: model.hidden_size: unknown key; known here: from"},
        Fault{"Type", "hidden_size = 64", "hidden_size = \"64\"",
              ":4: model.hidden_size: expected a whole number from 1 to 1048576, found \"64\""},
        Fault{"Range", "rope_theta = 500000", "rope_theta = nan",
              ":10: model.rope_theta: expected a number from 1 to 1000000000000, found nan"},
        Fault{"Heads", "num_key_value_heads = 2", "num_key_value_heads = 3",
              ":8: model.num_key_value_heads: expected a divisor of num_attention_heads = 4"},
        Fault{"Task", "needle = 0.25", "neddle = 0.25",
              ":21: data.mixture.neddle: unknown key; did you mean 'needle'?"},
        Fault{"NegativeShare", "needle = 0.25", "needle = -1",
              ":21: data.mixture.needle: expected"},
        Fault{"NoShare", "{ kv = 1 }", "{ kv = 0 }",
              ":34: phase[1].mixture: expected a share of more than 0"},
        Fault{"Batch", "batch_tokens = 8192", "batch_tokens = 8191",
              ":27: phase[0].batch_tokens: expected a multiple of sequence = 1024, found 8191"},
        Fault{"Choice", "\"muon\"", "\"muno\"",
              ":37: optimizer.name: expected one of adamw, muon, found \"muno\"; did you mean"},
        Fault{"Weights", "[data.mixture]", "context_weight = 1\n[data.mixture]",
              ":19: data.context_weight: expected less than answer_weight = 1, found 1"},
        Fault{"ListOfTexts", "[\"b\", \"a\"]", "[\"b\", 3]",
              ":17: data.held_out: expected a list of texts, found 3"},
        Fault{"TableAsValue", "[optimizer]", "[x]",
              ": optimizer.learning_rate: expected a number, found nothing"},
        Fault{"SectionIsValue", "seed = 7", "seed = 7\nprecision = \"bf16\"",
              ":2: precision: expected a table, [precision], found \"bf16\""},
        Fault{"Twice", "seed = 7", "seed = 7\nseed = 8", ":2: expected TOML"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Recipe, NeedsAPhase) {
  const auto recipe =
      parse(kGood.substr(0, kGood.find("[[phase]]")) + "[optimizer]\nlearning_rate = 1e-3\n");
  ASSERT_FALSE(recipe);
  EXPECT_NE(std::string(recipe.error().what()).find("at least one [[phase]]"), std::string::npos);
}

TEST(Recipe, LoadsFromAFile) {
  const formats::TemporaryFolder folder;
  const auto path = folder.write("run.toml", kGood);
  EXPECT_EQ(load_recipe(path, kTasks).value().data.manifest, folder.path() / "books.json");
  EXPECT_EQ(load_recipe(folder.path() / "none.toml", kTasks).error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace kvasir::data
