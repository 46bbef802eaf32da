#include "formats/model_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "formats/files.h"

namespace kvasir::formats {
namespace {

using Json = nlohmann::json;

// A small Llama that a test changes: {"key": value} sets, {"key": null} removes.
Json llama(const Json& changes = Json::object()) {
  Json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"hidden_size", 64},
                 {"intermediate_size", 128},
                 {"num_hidden_layers", 4},
                 {"num_attention_heads", 4},
                 {"vocab_size", 96}};
  config.merge_patch(changes);
  return config;
}

ModelConfig parsed(const Json& config) { return parse_model_config(config.dump(), "c").value(); }

std::string refusal(const Json& config, ErrorCode code = ErrorCode::kMalformed) {
  const auto result = parse_model_config(config.dump(), "c");
  if (result) return "";
  EXPECT_EQ(result.error().code(), code);
  return result.error().what();
}

TEST(ModelConfig, FillsInTheDefaultsOfTransformers) {
  const ModelConfig config = parsed(llama());
  EXPECT_EQ(config.architecture, "LlamaForCausalLM");
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.max_positions, 2048);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.hidden_act, "silu");
  EXPECT_EQ(config.rope.theta, 10000);
  EXPECT_EQ(config.rope.scaling, RopeScaling::kNone);
  EXPECT_TRUE(config.sliding_window.empty());
  EXPECT_TRUE(config.eos_tokens.empty());
  EXPECT_EQ(config.dtype_text, "");
}

TEST(ModelConfig, ReadsBothSpellingsOfDtype) {
  EXPECT_EQ(parsed(llama({{"torch_dtype", "bfloat16"}})).dtype_text, "bfloat16");
  EXPECT_EQ(parsed(llama({{"dtype", "float16"}})).dtype_text, "float16");
  EXPECT_EQ(parsed(llama({{"dtype", "float16"}, {"torch_dtype", "float32"}})).dtype_text,
            "float16");
}

TEST(ModelConfig, ReadsBothSpellingsOfLlama31sRotary) {
  const Json scaling = {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  const Json four = llama({{"rope_theta", 500000.0},
                           {"max_position_embeddings", 131072},
                           {"rope_scaling", scaling},
                           {"num_key_value_heads", 2},
                           {"eos_token_id", {1, 2, 3}},
                           {"bos_token_id", 0}});
  Json five = four;
  five.erase("rope_theta");
  five.erase("rope_scaling");
  five["rope_parameters"] = scaling;
  five["rope_parameters"]["rope_theta"] = 500000.0;
  for (const Json& spelling : {four, five}) {
    const ModelConfig config = parsed(spelling);
    EXPECT_EQ(config.rope.scaling, RopeScaling::kLlama3);
    EXPECT_EQ(config.rope.theta, 500000);
    EXPECT_EQ(config.rope.factor, 8);
    EXPECT_EQ(config.rope.low_freq_factor, 1);
    EXPECT_EQ(config.rope.high_freq_factor, 4);
    EXPECT_EQ(config.rope.original_max_positions, 8192);
    EXPECT_EQ(config.num_kv_heads, 2);
    EXPECT_EQ(config.eos_tokens, (std::vector<int32_t>{1, 2, 3}));
    EXPECT_EQ(config.bos_token, 0);
  }
}

TEST(ModelConfig, ReadsTheOtherRotaryScalings) {
  EXPECT_EQ(parsed(llama({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}})).rope.scaling,
            RopeScaling::kLinear)
      << "the key's older name";
  EXPECT_EQ(
      parsed(llama({{"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}}}})).rope.factor, 2);
  EXPECT_EQ(parsed(llama({{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 7.0}}}}))
                .rope.theta,
            7);
  const RopeConfig yarn = parsed(llama({{"max_position_embeddings", 8192},
                                        {"rope_scaling",
                                         {{"rope_type", "yarn"},
                                          {"original_max_position_embeddings", 2048},
                                          {"beta_fast", 16},
                                          {"attention_factor", 1.5},
                                          {"mscale", 0.7},
                                          {"truncate", false}}}}))
                              .rope;
  EXPECT_EQ(yarn.scaling, RopeScaling::kYarn);
  EXPECT_EQ(yarn.factor, 4) << "the ratio of the lengths where no factor is given";
  EXPECT_EQ(yarn.beta_fast, 16);
  EXPECT_EQ(yarn.beta_slow, 1);
  EXPECT_EQ(yarn.attention_factor, 1.5);
  EXPECT_EQ(yarn.mscale, 0.7);
  EXPECT_FALSE(yarn.truncate);
}

TEST(ModelConfig, ReadsQwen2sWindowsOnlyWhereTheyAreUsed) {
  const Json qwen = llama({{"architectures", {"Qwen2ForCausalLM"}},
                           {"model_type", "qwen2"},
                           {"sliding_window", 32},
                           {"max_window_layers", 3}});
  EXPECT_TRUE(parsed(qwen).sliding_window.empty());
  EXPECT_EQ(parsed(qwen).max_positions, 32768) << "Qwen's own default";
  Json used = qwen;
  used["use_sliding_window"] = true;
  EXPECT_EQ(parsed(used).sliding_window, (std::vector<int64_t>{0, 0, 0, 32}));
  used["layer_types"] = {"sliding_attention", "full_attention", "full_attention",
                         "sliding_attention"};
  EXPECT_EQ(parsed(used).sliding_window, (std::vector<int64_t>{32, 0, 0, 32}))
      << "a list of types wins";
  EXPECT_TRUE(parsed(llama({{"sliding_window", 32}})).sliding_window.empty())
      << "Llama ignores the key";
}

TEST(ModelConfig, GivesQwen3ItsHeads) {
  const ModelConfig config =
      parsed(llama({{"architectures", {"Qwen3ForCausalLM"}}, {"model_type", "qwen3"}}));
  EXPECT_EQ(config.head_dim, 128) << "not hidden_size / heads";
  EXPECT_EQ(parsed(llama({{"model_type", "qwen3"}, {"head_dim", 32}})).head_dim, 32);
}

TEST(ModelConfig, ReadsMistralsWindow) {
  const Json mistral = llama({{"architectures", {"MistralForCausalLM"}},
                              {"model_type", "mistral"},
                              {"num_key_value_heads", 2}});
  EXPECT_EQ(parsed(mistral).sliding_window, std::vector<int64_t>(4, 4096)) << "its default";
  EXPECT_EQ(parsed(mistral).max_positions, 131072);
  Json other = mistral;
  other["sliding_window"] = 32;
  EXPECT_EQ(parsed(other).sliding_window, std::vector<int64_t>(4, 32));
  other["layer_types"] = {"sliding_attention", "full_attention", "full_attention",
                          "sliding_attention"};
  EXPECT_EQ(parsed(other).sliding_window, std::vector<int64_t>(4, 32)) << "every layer slides";
  other["sliding_window"] = nullptr;
  EXPECT_TRUE(parsed(other).sliding_window.empty());
}

TEST(ModelConfig, ReadsMistralsHeads) {
  Json mistral = llama({{"model_type", "mistral"}, {"num_attention_heads", 16}});
  mistral.erase("num_key_value_heads");
  EXPECT_EQ(parsed(mistral).num_kv_heads, 8);
  EXPECT_EQ(parsed(mistral).head_dim, 4);
  mistral["head_dim"] = nullptr;
  mistral["num_key_value_heads"] = nullptr;
  EXPECT_EQ(parsed(mistral).num_kv_heads, 16);
  EXPECT_EQ(parsed(mistral).head_dim, 4);
  mistral["head_dim"] = 32;
  EXPECT_EQ(parsed(mistral).head_dim, 32) << "as Mistral Nemo has it";
}

TEST(ModelConfig, ReadsLongRope) {
  const Json factors = {1, 1.5, 2, 2.5}, longer = {4, 5, 6, 64};
  Json phi = llama({{"architectures", {"Phi3ForCausalLM"}},
                    {"model_type", "phi3"},
                    {"max_position_embeddings", 131072},
                    {"partial_rotary_factor", 0.5},
                    {"rope_scaling", {{"short_factor", factors}, {"long_factor", longer}}}});
  // "su" and "yarn" are what the first files called it.
  for (const char* type : {"su", "yarn", "longrope"}) {
    phi["rope_scaling"]["type"] = type;
    const RopeConfig rope = parsed(phi).rope;
    EXPECT_EQ(rope.scaling, RopeScaling::kLongRope) << type;
    EXPECT_EQ(rope.short_factor, (std::vector<double>{1, 1.5, 2, 2.5}));
    EXPECT_EQ(rope.long_factor, (std::vector<double>{4, 5, 6, 64}));
    EXPECT_EQ(rope.original_max_positions, 4096) << "Phi-3's default";
    EXPECT_EQ(rope.factor, 32) << "the ratio of the lengths";
    EXPECT_EQ(rope.partial_rotary_factor, 0.5);
    EXPECT_FALSE(rope.attention_factor);
  }
  EXPECT_TRUE(parsed(phi).sliding_window.empty());
  EXPECT_EQ(parsed(phi).rms_norm_eps, 1e-5);
  phi["original_max_position_embeddings"] = 8192;
  phi["rope_scaling"]["original_max_position_embeddings"] = 77;
  phi["rope_scaling"]["attention_factor"] = 1.25;
  phi["sliding_window"] = 2047;
  EXPECT_EQ(parsed(phi).rope.original_max_positions, 8192) << "the outer key wins";
  EXPECT_EQ(parsed(phi).rope.attention_factor, 1.25);
  EXPECT_EQ(parsed(phi).sliding_window, std::vector<int64_t>(4, 2047));
}

TEST(ModelConfig, ReadsGlmsDefaults) {
  for (const char* type : {"glm", "glm4"}) {
    Json glm = llama({{"model_type", type}, {"sliding_window", 32}});
    glm.erase("num_key_value_heads");
    const ModelConfig config = parsed(glm);
    EXPECT_EQ(config.head_dim, 128);
    EXPECT_EQ(config.num_kv_heads, 2);
    EXPECT_EQ(config.rms_norm_eps, 1.5625e-7);
    EXPECT_EQ(config.rope.partial_rotary_factor, 0.5);
    EXPECT_TRUE(config.attention_bias);
    EXPECT_TRUE(config.sliding_window.empty());
    glm["attention_bias"] = false;
    glm["rope_parameters"] = {{"rope_type", "default"}, {"partial_rotary_factor", 0.25}};
    EXPECT_EQ(parsed(glm).rope.partial_rotary_factor, 0.25);
    EXPECT_FALSE(parsed(glm).attention_bias);
  }
}

TEST(ModelConfig, NullsCountAsAbsent) {
  const std::string text =
      R"({"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,)"
      R"("num_attention_heads":4,"vocab_size":96,"num_key_value_heads":null,"head_dim":null,)"
      R"("rope_scaling":null,"pad_token_id":null,"sliding_window":null,"eos_token_id":null})";
  const ModelConfig config = parse_model_config(text, "c").value();
  EXPECT_EQ(config.num_kv_heads, 4);
  EXPECT_FALSE(config.pad_token);
  EXPECT_EQ(config.architecture, "");
}

TEST(ModelConfig, ErrorsNameKeyExpectedAndFound) {
  const std::pair<Json, const char*> cases[] = {
      {{{"hidden_size", nullptr}}, "c: hidden_size: expected a whole number, found nothing"},
      {{{"hidden_size", 0}}, "c: hidden_size: expected a whole number from 1 to 16777216, found 0"},
      {{{"hidden_size", "64"}},
       "c: hidden_size: expected a whole number from 1 to 16777216, found \"64\""},
      {{{"hidden_size", 64.5}},
       "c: hidden_size: expected a whole number from 1 to 16777216, found 64.5"},
      {{{"vocab_size", 18446744073709551615u}},
       "c: vocab_size: expected a whole number from 1 to 16777216, found 18446744073709551615"},
      {{{"num_hidden_layers", 5000}},
       "c: num_hidden_layers: expected a whole number from 1 to 4096, found 5000"},
      {{{"num_key_value_heads", 3}}, "c: num_key_value_heads: expected a divisor of 4, found 3"},
      {{{"hidden_size", 66}},
       "c: hidden_size: expected a multiple of num_attention_heads (4), found 66"},
      {{{"head_dim", 15}}, "c: head_dim: expected an even number, found 15"},
      {{{"rms_norm_eps", -1}}, "c: rms_norm_eps: expected a number from 0 to 1, found -1"},
      {{{"tie_word_embeddings", "yes"}},
       "c: tie_word_embeddings: expected true or false, found \"yes\""},
      {{{"hidden_act", 3}}, "c: hidden_act: expected text, found 3"},
      {{{"architectures", "Llama"}}, "c: architectures: expected a list of names, found \"Llama\""},
      {{{"eos_token_id", {1, -2}}},
       "c: eos_token_id: expected a whole number from 0 to 2147483647, found -2"},
      {{{"rope_scaling", 3}}, "c: rope_scaling: expected an object, found 3"},
      {{{"rope_scaling", {{"rope_type", "linear"}}}},
       "c: rope_scaling: factor: expected a number, found nothing"},
      {{{"rope_scaling",
         {{"rope_type", "llama3"},
          {"factor", 8},
          {"low_freq_factor", 4},
          {"high_freq_factor", 1}}}},
       "c: rope_scaling: high_freq_factor: expected a number above low_freq_factor, found 1"},
      {{{"model_type", "qwen2"},
        {"sliding_window", 8},
        {"use_sliding_window", true},
        {"layer_types", {"full_attention"}}},
       "c: layer_types: expected a list of 4 names, found [\"full_attention\"]"},
      {{{"partial_rotary_factor", 0.3}, {"head_dim", 10}},
       "c: partial_rotary_factor: expected an even number of elements that rotate, found 3"},
      {{{"rope_scaling", {{"rope_type", "longrope"}, {"short_factor", {1, 2}}}}},
       "c: rope_scaling: short_factor: expected a list of 8 numbers from 1e-06 to 1e+06, "
       "found a list of 2"},
      {{{"rope_scaling", {{"rope_type", "longrope"}, {"short_factor", 3}}}},
       "c: rope_scaling: short_factor: expected a list of 8 numbers from 1e-06 to 1e+06, found 3"},
      {{{"head_dim", 4},
        {"rope_scaling",
         {{"rope_type", "longrope"}, {"short_factor", {1, 2}}, {"long_factor", {1, "x"}}}}},
       "c: rope_scaling: long_factor: expected a list of 2 numbers from 1e-06 to 1e+06, "
       "found \"x\""},
      {{{"head_dim", 4}, {"rope_scaling", {{"rope_type", "longrope"}, {"short_factor", {1, 0}}}}},
       "c: rope_scaling: short_factor: expected a list of 2 numbers from 1e-06 to 1e+06, found 0"},
      {{{"head_dim", 4}, {"rope_scaling", {{"rope_type", "longrope"}, {"short_factor", {1, 1}}}}},
       "c: rope_scaling: long_factor: expected a list of 2 numbers from 1e-06 to 1e+06, "
       "found nothing"}};
  for (const auto& [changes, message] : cases) EXPECT_EQ(refusal(llama(changes)), message);
}

TEST(ModelConfig, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(refusal(llama({{"rope_scaling", {{"rope_type", "su"}}}}), ErrorCode::kUnsupported),
            "c: rope_scaling: expected rotary scaling default, linear, dynamic, llama3, yarn or "
            "longrope, "
            "found \"su\"");
  EXPECT_NE(refusal(llama({{"rope_parameters", {{"full_attention", {{"rope_theta", 1.0}}}}}}),
                    ErrorCode::kUnsupported)
                .find("parameters per layer type (\"full_attention\") are not supported"),
            std::string::npos);
}

TEST(ModelConfig, RefusesTextThatIsNoObject) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "c: expected a JSON object, found "},
      {"{\"a\":", "c: expected a JSON object, found "},
      {"[1]", "c: expected a JSON object, found array"},
      {"\xff", "c: expected a JSON object, found "},
      {std::string(1000, '['), "c: expected a JSON object, found nesting deeper than 256"}};
  for (const auto& [text, message] : cases) {
    const auto result = parse_model_config(text, "c");
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), ErrorCode::kMalformed);
    EXPECT_TRUE(std::string(result.error().what()).starts_with(message)) << result.error().what();
    EXPECT_EQ(std::string(result.error().what()).find("json.exception"), std::string::npos);
  }
}

TEST(ModelConfig, LoadsFolders) {
  const TemporaryFolder folder;
  EXPECT_EQ(load_model_config(folder.path() / "none").error().code(), ErrorCode::kNotFound);
  EXPECT_EQ(std::string(load_model_config(folder.path()).error().what()),
            (folder.path() / "config.json").string() + ": cannot open: No such file or directory");
  folder.write("config.json", llama().dump());
  EXPECT_EQ(load_model_config(folder.path()).value().hidden_size, 64);
}

TEST(GenerationConfig, ReadsSamplingDefaults) {
  const GenerationConfig config =
      parse_generation_config(
          R"({"do_sample":true,"temperature":0.6,"top_p":0.9,"top_k":20,"min_p":0.05,)"
          R"("repetition_penalty":1.05,"eos_token_id":[1,2],"bos_token_id":0,"pad_token_id":3,)"
          R"("transformers_version":"5.0.0"})",
          "g")
          .value();
  EXPECT_TRUE(config.do_sample);
  EXPECT_EQ(config.temperature, 0.6);
  EXPECT_EQ(config.top_p, 0.9);
  EXPECT_EQ(config.top_k, 20);
  EXPECT_EQ(config.min_p, 0.05);
  EXPECT_EQ(config.repetition_penalty, 1.05);
  EXPECT_EQ(config.eos_tokens, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(config.bos_token, 0);
  EXPECT_EQ(config.pad_token, 3);
}

TEST(GenerationConfig, IsOptionalButNotWrong) {
  const TemporaryFolder folder;
  const GenerationConfig none = load_generation_config(folder.path()).value();
  EXPECT_FALSE(none.do_sample);
  EXPECT_FALSE(none.temperature);
  EXPECT_EQ(parse_generation_config(R"({"eos_token_id":7})", "g").value().eos_tokens,
            std::vector<int32_t>{7});
  EXPECT_EQ(std::string(parse_generation_config(R"({"top_p":1.5})", "g").error().what()),
            "g: top_p: expected a number from 0 to 1, found 1.5");
  folder.write("generation_config.json", "{");
  EXPECT_EQ(load_generation_config(folder.path()).error().code(), ErrorCode::kMalformed);
}

}  // namespace
}  // namespace kvasir::formats
