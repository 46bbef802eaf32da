// kvasir score with the fake engine in this process.
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/fake_engine.h"
#include "cli/harness.h"
#include "formats/safetensors.h"

namespace kvasir::cli {
namespace {

using Words = std::vector<std::string>;

Outcome score(Words arguments, const Setting& setting = {}, const std::string& model = "fake") {
  arguments.insert(arguments.begin(), {"score", "--model", model});
  return run(arguments, setting);
}

// Folder entries that begin with `name`: the file itself and temporary ones beside it.
int files_named(const std::string& name) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(temporary_folder()))
    count += entry.path().filename().string().starts_with(name);
  return count;
}

TEST(Score, GivesLikelihoodPerTokenAndCharacter) {
  const std::string text = temporary_file("text.txt", "na\xC3\xAFve!");  // 6 characters, 7 bytes
  const Outcome table = score({text});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_EQ(table.out,
            "  tokens scored  7\n"
            "  window         100,000 tokens\n"
            "  per token      2.0000 ± 0.0980 nats\n"
            "  perplexity     7.389\n"
            "  per character  2.3333 nats = 3.3663 bits (6 characters)\n");
  const Outcome json = score({text, "--json", "--context", "4"});
  const auto object = nlohmann::json::parse(json.out);
  EXPECT_EQ(object["tokens"], 7);
  EXPECT_EQ(object["context"], 4);
  EXPECT_EQ(object["nll"], 14.0);
  EXPECT_EQ(object["nats_per_token"], 2.0);
  EXPECT_EQ(object["characters"], 6);
  EXPECT_NEAR(object["nats_per_character"], 14.0 / 6, 1e-12);
  EXPECT_NEAR(object["bits_per_character"], 14.0 / 6 / std::log(2), 1e-12);
  EXPECT_FALSE(object.contains("kl_per_token"));
}

TEST(Score, AgainstOtherMethodsGivesTheDivergence) {
  const std::string text = temporary_file("text.txt", "some text");
  const Outcome outcome = score({text, "--against", "retrieve=dense", "--json"});
  const auto object = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(object["against"], "retrieve=dense");
  EXPECT_NEAR(object["kl_per_token"], 0.01, 1e-12);
  EXPECT_NE(score({text, "--against", "prefill=dense"}).out.find("KL divergence  0.01 ± 0.002"),
            std::string::npos);
  EXPECT_EQ(score({text, "--against", "prefill=none"}).code, 3);
}

TEST(Score, TakesIdsInsteadOfText) {
  const std::string ids = temporary_file("ids.txt", "1 2\n3\t4\r\n 258\n");
  const auto object = nlohmann::json::parse(score({"--ids", ids, "--json"}).out);
  EXPECT_EQ(object["tokens"], 4);
  EXPECT_FALSE(object.contains("characters"));
  EXPECT_EQ(score({"--ids", "-"}, {.input = "7 8 9"}).code, 0);
}

TEST(Score, RefusesWrongIds) {
  const std::pair<const char*, const char*> cases[] = {
      {"1 2\n3 x4", "line 2: expected a token id, found 'x4'"},
      {"1 -2", "line 1: expected a token id, found '-2'"},
      {"1 99999999999", "line 1: expected a token id, found '99999999999'"},
      {"1 2 259 3", "id 3 of 4: expected a token id below 259, found 259"},
      {" \n", "expected token ids apart by white space, found none"},
      {"5", "expected at least 2 tokens to score, found 1"}};
  for (const auto& [content, message] : cases) {
    const std::string path = temporary_file("ids.txt", content);
    const Outcome outcome = score({"--ids", path});
    EXPECT_EQ(outcome.code, 4) << content;
    EXPECT_EQ(outcome.err, "kvasir: error: " + path + ": " + message + "\n");
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(Score, DumpsLogitsAsSafetensors) {
  const std::string ids = temporary_file("ids.txt", "1 2 3 4 5");
  const std::string path = temporary_folder() + "/logits.safetensors";
  EXPECT_EQ(score({"--ids", ids, "--dump-logits", path}).code, 0);
  const auto file = formats::SafetensorsFile::open(path).value();
  ASSERT_EQ(file.tensors().size(), 1u);
  const formats::TensorView& logits = file.tensors()[0];
  EXPECT_EQ(logits.name, "logits");
  EXPECT_EQ(logits.dtype_text, "F32");
  EXPECT_EQ(logits.shape, (std::vector<int64_t>{5, 259}));
  for (int row = 0; row < 5; ++row) {
    float values[2];
    std::memcpy(values, logits.data.data() + row * 259 * 4, sizeof values);
    EXPECT_EQ(values[0], static_cast<float>(row));
    EXPECT_EQ(values[1], 0.5f);
  }
  EXPECT_EQ(files_named("logits.safetensors"), 1);
  std::filesystem::remove(path);
}

TEST(Score, DumpsLogitsWholeOrNotAtAll) {
  const std::string ids = temporary_file("ids.txt", "1 2 3 4 5");
  const std::string path = temporary_folder() + "/whole.safetensors";
  for (const int signal : {SIGINT, SIGTERM}) {
    Setting setting;
    Interrupts* interrupts = nullptr;
    setting.with_interrupts = [&](Interrupts& all) { interrupts = &all; };
    setting.before = [&] {
      fake::log().on_token = [&](int64_t token) {
        // However often: nothing ends the process while the file is half there.
        for (int i = 0; token == 3 && i < 3; ++i) interrupts->notify(signal);
      };
    };
    const Outcome outcome = score({"--ids", ids, "--dump-logits", path}, setting);
    EXPECT_EQ(outcome.code, 128 + signal);
    EXPECT_EQ(outcome.err, "kvasir: interrupted\n");
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(files_named("whole.safetensors"), 0);
  }
}

TEST(Score, KeepsTheOldLogitsWhereTheNewOnesFail) {
  const std::string ids = temporary_file("ids.txt", "1 2 3 4 5");
  const std::string path = temporary_file("old.safetensors", "old");
  Setting setting;
  setting.before = [] {
    fake::log().on_token = [](int64_t token) {
      if (token == 3) throw Error(ErrorCode::kInternal, "broken", "fake");
    };
  };
  EXPECT_EQ(score({"--ids", ids, "--dump-logits", path}, setting).code, 1);
  EXPECT_EQ(file_content(path), "old");
  EXPECT_EQ(files_named("old.safetensors"), 1);
}

TEST(Score, SaysBeforeTheWorkThatTheOutputCannotBeWritten) {
  const std::string ids = temporary_file("ids.txt", "1 2 3");
  for (const auto& [path, code] : {std::pair{std::string("/no/such/folder/x"), 7},
                                   {temporary_folder(), 2},
                                   {std::string("/dev/null"), 2}}) {
    bool scored = false;
    Setting setting;
    setting.before = [&scored] { fake::log().on_token = [&scored](int64_t) { scored = true; }; };
    const Outcome outcome = score({"--ids", ids, "--dump-logits", path}, setting);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_TRUE(outcome.err.starts_with("kvasir: error: " + path + ": ")) << outcome.err;
    EXPECT_FALSE(scored);
  }
}

TEST(Score, ShowsProgressOnATerminal) {
  const std::string text = temporary_file("text.txt", std::string(2000, 'x'));
  const Outcome outcome = score({text}, {.err_terminal = true});
  EXPECT_NE(outcome.err.find("\rscoring  ██"), std::string::npos);
  EXPECT_TRUE(outcome.err.ends_with("\r\x1b[K"));
}

}  // namespace
}  // namespace kvasir::cli
