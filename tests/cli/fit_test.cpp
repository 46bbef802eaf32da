// --fit: what happens to text that is too long.
#include "cli/fit.h"

#include <gtest/gtest.h>

#include "cli/fake_engine.h"
#include "cli/harness.h"

namespace kvasir::cli {
namespace {

using Words = std::vector<std::string>;

// The text of the only prompt, and what the program said.
struct Fitted {
  Outcome outcome;
  Words prompts;
};

Fitted fit(const std::string& document, Words arguments) {
  Fitted fitted;
  const std::string path = temporary_file("fit.txt", document);
  arguments.insert(arguments.begin(),
                   {"run", "--model", "fake,context=100", "-d", path, "-n", "20"});
  Setting setting;
  setting.before = [&fitted] {
    fake::log().on_submit = [&fitted](const Request& request) {
      std::string text;
      for (const TokenId token : request.prompt)
        if (token < 256) text += static_cast<char>(token);
      fitted.prompts.push_back(text);
    };
  };
  fitted.outcome = run(arguments, setting);
  return fitted;
}

std::string letters(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += static_cast<char>('a' + i % 26);
  return text;
}

TEST(Fit, ErrorSaysByHowMuch) {
  const Fitted fitted = fit(letters(90), {"-a", "Who?"});
  EXPECT_EQ(fitted.outcome.code, 6);
  EXPECT_EQ(fitted.outcome.err,
            "kvasir: error: context: expected at most 100 tokens of prompt and answer, found 118 "
            "(prompt 98 + --max-tokens 20): 18 too many; shorten the text, lower --max-tokens, or "
            "give --fit middle or --fit tail\n");
  EXPECT_TRUE(fitted.prompts.empty());
}

TEST(Fit, LeavesWhatFitsAlone) {
  for (const char* policy : {"error", "middle", "tail"}) {
    const Fitted fitted = fit(letters(72), {"-a", "Who?", "--fit", policy});
    EXPECT_EQ(fitted.outcome.code, 0) << fitted.outcome.err;
    EXPECT_EQ(fitted.prompts, Words{letters(72) + "\nWho?"});
    EXPECT_EQ(fitted.outcome.err.find("note"), std::string::npos);
  }
}

TEST(Fit, MiddleKeepsBothEnds) {
  const std::string document = letters(200);
  const Fitted fitted = fit(document, {"-a", "Who?", "--fit", "middle"});
  EXPECT_EQ(fitted.outcome.code, 0) << fitted.outcome.err;
  EXPECT_EQ(fitted.prompts, Words{document.substr(0, 36) + document.substr(164) + "\nWho?"});
  EXPECT_NE(fitted.outcome.err.find(
                "kvasir: note: the text is too long for a context of 100 tokens: dropped 128 of "
                "its 200 tokens from the middle\n"),
            std::string::npos)
      << fitted.outcome.err;
}

TEST(Fit, TailKeepsTheEnd) {
  const std::string document = letters(200);
  const Fitted fitted = fit(document, {"-a", "Who?", "--fit", "tail"});
  EXPECT_EQ(fitted.prompts, Words{document.substr(128) + "\nWho?"});
  EXPECT_NE(fitted.outcome.err.find("from the beginning"), std::string::npos);
}

TEST(Fit, NeverCutsACharacterInTwo) {
  std::string document;
  while (document.size() < 300) document += "\xE2\x82\xAC";  // three tokens of the fake each
  for (const char* policy : {"middle", "tail"}) {
    const Fitted fitted = fit(document, {"-a", "Who?", "--fit", policy});
    ASSERT_EQ(fitted.prompts.size(), 1u) << fitted.outcome.err;
    const std::string kept = fitted.prompts[0].substr(0, fitted.prompts[0].find('\n'));
    EXPECT_EQ(kept.size() % 3, 0u);
    EXPECT_EQ(kept.find("\xEF\xBF\xBD"), std::string::npos);
  }
}

TEST(Fit, KeepsRoomForLaterTurnsSoThatTheDocumentStaysAsItIs) {
  const std::string path = temporary_file("fit.txt", letters(300));
  Words prompts;
  Setting setting;
  setting.before = [&prompts] {
    fake::log().on_submit = [&prompts](const Request& request) {
      std::string text;
      for (const TokenId token : request.prompt)
        if (token < 256) text += static_cast<char>(token);
      prompts.push_back(text);
    };
  };
  const Outcome outcome = run({"run", "-m", "fake,context=100", "-d", path, "-n", "6", "-a", "A?",
                               "-a", "B?", "--fit", "tail"},
                              setting);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(prompts.size(), 2u);
  const std::string shared = prompts[0].substr(0, prompts[0].find('\n'));
  EXPECT_TRUE(prompts[1].starts_with(shared)) << "later turns find the KV of the first";
  EXPECT_EQ(outcome.err.find("note"), outcome.err.rfind("note")) << "said once";
}

TEST(Fit, RefusesWhatNoShorteningHelps) {
  const Fitted fitted = fit(letters(50), {"-a", letters(200), "--fit", "middle"});
  EXPECT_EQ(fitted.outcome.code, 6);
  EXPECT_NE(fitted.outcome.err.find("even without the document; ask less"), std::string::npos)
      << fitted.outcome.err;
}

TEST(Fit, ShortensPromptsAndMessagesWithoutADocument) {
  const Outcome prompt = run(
      {"run", "-m", "fake,context=100", "--prompt", letters(200), "-n", "20", "--fit", "middle"});
  EXPECT_EQ(prompt.code, 0) << prompt.err;
  EXPECT_TRUE(prompt.out.starts_with("80 tokens about ")) << prompt.out;
  const std::string chat =
      temporary_file("long.json", R"([{"role":"user","content":")" + letters(200) +
                                      R"("},{"role":"user","content":"x"}])");
  EXPECT_EQ(run({"run", "-m", "fake,context=100", "--chat", chat, "-n", "20"}).code, 6);
  EXPECT_EQ(
      run({"run", "-m", "fake,context=100", "--chat", chat, "-n", "20", "--fit", "tail"}).code, 0);
}

TEST(Fit, ContextOptionIsTheLimitToo) {
  const std::string path = temporary_file("fit.txt", letters(300));
  const Outcome outcome =
      run({"run", "-m", "fake", "-d", path, "-a", "x", "-n", "20", "--context", "150"});
  EXPECT_EQ(outcome.code, 6);
  EXPECT_NE(outcome.err.find("at most 150 tokens"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::cli
