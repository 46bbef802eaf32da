// kvasir run with the fake engine in this process: what is asked, what is printed.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/fake_engine.h"
#include "cli/harness.h"

namespace kvasir::cli {
namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

// `kvasir run --model MODEL ...`
Outcome ask(const std::string& model, Words arguments, const Setting& setting = {}) {
  arguments.insert(arguments.begin(), {"run", "--model", model});
  return run(arguments, setting);
}

std::vector<Json> lines(const std::string& text) {
  std::vector<Json> all;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) all.push_back(Json::parse(line));
  return all;
}

std::string book() { return temporary_file("book.txt", "It was a dark night.\n"); }

// The texts of the prompts that the engine got, by the fake's spelling of special tokens.
struct Prompts {
  void watch() {
    fake::log().on_submit = [this](const Request& request) {
      std::string text;
      for (const TokenId token : request.prompt)
        text += token < 256 ? std::string(1, static_cast<char>(token))
                            : std::string(token == 256   ? "<B>"
                                          : token == 257 ? "<U>"
                                                         : "<A>");
      texts.push_back(text);
      requests.push_back(request);
    };
  }
  std::vector<std::string> texts;
  std::vector<Request> requests;
};

Outcome ask_watched(Prompts& prompts, const Words& arguments, Setting setting = {}) {
  setting.before = [&prompts] { prompts.watch(); };
  return ask("fake", arguments, setting);
}

TEST(Run, AnswersOneQuestion) {
  const Outcome outcome = ask("fake", {"--document", book(), "--ask", "Who?"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "29 tokens about Who?\n");
  EXPECT_NE(outcome.err.find("prefill dense, compress plain, retrieve dense"), std::string::npos);
}

TEST(Run, QuestionsAreTurnsOfOneConversation) {
  Prompts prompts;
  const Outcome outcome = ask_watched(prompts, {"-d", book(), "-a", "Who?", "-a", "Why?"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(prompts.texts.size(), 2u);
  EXPECT_EQ(prompts.texts[0], "<B>It was a dark night.\n\n<U>Who?<A>");
  EXPECT_EQ(prompts.texts[1],
            "<B>It was a dark night.\n\n<U>Who?<A>29 tokens about Who?<U>Why?<A>");
  EXPECT_EQ(outcome.out, "29 tokens about Who?\n55 tokens about Why?\n");
  EXPECT_NE(outcome.err.find("> Who?\n"), std::string::npos);
  EXPECT_NE(outcome.err.find("> Why?\n"), std::string::npos);
}

TEST(Run, RequestsStandAloneAndRunSideBySide) {
  Prompts prompts;
  const Outcome outcome =
      ask_watched(prompts, {"-d", book(), "-a", "Who?", "-a", "Why?", "--as", "requests"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  ASSERT_EQ(prompts.texts.size(), 2u);
  EXPECT_EQ(prompts.texts[1], "<B>It was a dark night.\n\n<U>Why?<A>");
  EXPECT_EQ(outcome.out, "29 tokens about Who?\n29 tokens about Why?\n") << "in order";
  EXPECT_EQ(fake::log().most_running, 2);
  EXPECT_TRUE(outcome.err.starts_with("> Who?\n> Why?\n")) << outcome.err;
}

TEST(Run, DocumentRoleChoosesTheMessage) {
  Prompts prompts;
  ask_watched(prompts, {"-d", book(), "-a", "Who?", "--document-role", "user"});
  ASSERT_EQ(prompts.texts.size(), 1u);
  EXPECT_EQ(prompts.texts[0], "<B><U>It was a dark night.\n<U>Who?<A>");
}

TEST(Run, PromptGoesInAsItIs) {
  Prompts prompts;
  const Outcome outcome = ask_watched(prompts, {"--prompt", "Once upon"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(prompts.texts, Words{"<B>Once upon"});
  Prompts with_document;
  ask_watched(with_document, {"-d", book(), "--prompt", "Once upon"});
  EXPECT_EQ(with_document.texts, Words{"<B>It was a dark night.\n\nOnce upon"});
}

TEST(Run, ChatTakesMessagesFromAFile) {
  const std::string chat =
      temporary_file("chat.json",
                     R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"Yes?"},
          {"role":"user","content":"Why?"}])");
  Prompts prompts;
  const Outcome outcome = ask_watched(prompts, {"--chat", chat});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(prompts.texts, Words{"<B><U>Hi<A>Yes?<U>Why?<A>"});
}

TEST(Run, ChatFilesThatAreWrongSayWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "line 1: expected JSON; "},
      {"[{\"role\":\"user\",\n\"content\":\"x\"},\n]", "line 3: expected JSON; "},
      {"{}", "expected a list of messages"},
      {"[]", "expected a list of messages"},
      {"[{\"role\":\"user\"}]", "message 1: expected an object with the texts"},
      {"[{\"role\":\"user\",\"content\":\"x\",\"name\":\"y\"}]", "message 1: unknown key \"name\""},
      {"[{\"role\":\"assistant\",\"content\":\"x\"}]",
       "expected the last message to be a question"},
      {"[{\"role\":\"user\",\"content\":\"\xff\"}]", "line 1: expected JSON; "}};
  for (const auto& [content, message] : cases) {
    const std::string chat = temporary_file("bad.json", content);
    const Outcome outcome = ask("fake", {"--chat", chat});
    EXPECT_EQ(outcome.code, 4) << content;
    EXPECT_TRUE(outcome.err.starts_with("kvasir: error: " + chat + ": " + message)) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(fake::log().loads, 0) << "mistakes are found before the model is loaded";
  }
}

TEST(Run, JoinsDocumentsAndReadsStandardInput) {
  Prompts prompts;
  const std::string second = temporary_file("second.txt", "No moon.");
  ask_watched(prompts, {"-d", book(), "-d", "-", "-d", second, "-a", "Who?"},
              {.input = "A storm came.\n"});
  EXPECT_EQ(prompts.texts,
            Words{"<B>It was a dark night.\n\nA storm came.\n\nNo moon.\n<U>Who?<A>"});
}

TEST(Run, RefusesDocumentsThatAreNoText) {
  const std::string empty = temporary_file("empty.txt", " \n\t\r\n");
  const std::string latin = temporary_file("latin.txt", "caf\xe9 au lait");
  const Outcome nothing = ask("fake", {"-d", empty, "-a", "x"});
  EXPECT_EQ(nothing.code, 4);
  EXPECT_EQ(nothing.err, "kvasir: error: " + empty + ": expected text, found an empty document\n");
  const Outcome wrong = ask("fake", {"-d", latin, "-a", "x"});
  EXPECT_EQ(wrong.code, 4);
  EXPECT_EQ(wrong.err, "kvasir: error: " + latin +
                           ": expected UTF-8 text, found an invalid byte 0xe9 at offset 3; "
                           "convert it first (iconv)\n");
  EXPECT_EQ(ask("fake", {"-d", "/no/such", "-a", "x"}).code, 3);
  EXPECT_EQ(ask("fake", {"-d", temporary_folder(), "-a", "x"}).code, 2);
  EXPECT_EQ(ask("fake", {"-d", "-", "-a", "x"}).err,
            "kvasir: error: standard input: expected text, found an empty document\n");
}

TEST(Run, HandsEveryOptionToTheEngine) {
  Prompts prompts;
  ask_watched(prompts,
              {"-a", "x", "-n", "7", "--samples", "3", "--seed", "9", "--top-k", "4", "--stop",
               "END", "--logprobs", "2", "--json", "--ignore-end", "--stop-token", "5"});
  ASSERT_EQ(prompts.requests.size(), 1u);
  const Request& request = prompts.requests[0];
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_EQ(request.samples, 3);
  EXPECT_EQ(request.sampling.seed, 9u);
  EXPECT_EQ(request.sampling.top_k, 4);
  EXPECT_EQ(request.sampling.top_p, 0.9) << "the model folder's default";
  EXPECT_EQ(request.stop, Words{"END"});
  EXPECT_EQ(request.stop_tokens, std::vector<TokenId>{5});
  EXPECT_TRUE(request.ignore_end_tokens);
  EXPECT_EQ(request.top_logprobs, 2);
}

TEST(Run, JsonIsOneLineOfTheDocumentedKeysAQuestion) {
  const Outcome outcome = ask("fake", {"-d", book(), "-a", "Hi", "-a", "Ho", "-n", "4", "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            R"({"text":"27 t","tokens":[50,55,32,116],"finish_reason":"length",)"
            R"("usage":{"prompt_tokens":27,"cached_tokens":0,"completion_tokens":4},)"
            R"("timing":{"load_seconds":0.25,"prefill_seconds":0.5,"ttft_seconds":0.625,)"
            R"("decode_tokens_per_second":400.0},)"
            R"("attention":{"prefill":"dense","compress":"plain","retrieve":"dense",)"
            R"("computed_fraction":1.0,"decode_fraction":1.0,"planned_heads":0,"dense_heads":0,)"
            R"("plan_seconds":0.0,"attention_seconds":0.0,"kv_bytes":0,"kept_fraction":0.0,)"
            R"("fallback_reason":null}})"
            "\n"
            R"({"text":"35 t","tokens":[51,53,32,116],"finish_reason":"length",)"
            R"("usage":{"prompt_tokens":35,"cached_tokens":27,"completion_tokens":4},)"
            R"("timing":{"load_seconds":0.25,"prefill_seconds":0.5,"ttft_seconds":0.625,)"
            R"("decode_tokens_per_second":400.0},)"
            R"("attention":{"prefill":"dense","compress":"plain","retrieve":"dense",)"
            R"("computed_fraction":1.0,"decode_fraction":1.0,"planned_heads":0,"dense_heads":0,)"
            R"("plan_seconds":0.0,"attention_seconds":0.0,"kv_bytes":0,"kept_fraction":0.0,)"
            R"("fallback_reason":null}})"
            "\n");
}

TEST(Run, JsonSaysWhyAnotherMethodRan) {
  const Outcome outcome = ask("fake,fallback", {"-a", "x", "--json"});
  EXPECT_EQ(lines(outcome.out).at(0)["attention"]["fallback_reason"],
            "dense instead of sparse: the prompt is short");
  const Outcome text = ask("fake,fallback", {"-a", "x"});
  EXPECT_NE(text.err.find("retrieve dense; dense instead of sparse: the prompt is short\n"),
            std::string::npos)
      << text.err;
}

TEST(Run, SamplesAreNumberedAndInOrder) {
  const Outcome text = ask("fake", {"-a", "Hi", "--samples", "2"});
  EXPECT_EQ(text.out, "5 tokens about Hi (sample 0)\n5 tokens about Hi (sample 1)\n");
  EXPECT_NE(text.err.find("[1.1]\n"), std::string::npos);
  EXPECT_NE(text.err.find("[1.2]\n"), std::string::npos);
  const std::vector<Json> all = lines(ask("fake", {"-a", "Hi", "--samples", "2", "--json"}).out);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["sample"], 0);
  EXPECT_EQ(all[1]["sample"], 1);
  EXPECT_EQ(all[1]["text"], "5 tokens about Hi (sample 1)");
}

TEST(Run, TurnsGoOnWithTheFirstSample) {
  Prompts prompts;
  ask_watched(prompts, {"-a", "Hi", "-a", "Ho", "--samples", "2"});
  EXPECT_EQ(prompts.texts.at(1), "<B><U>Hi<A>5 tokens about Hi (sample 0)<U>Ho<A>");
}

TEST(Run, LogprobsStandBesideTheTokens) {
  const Json line =
      lines(ask("fake", {"-a", "Hi", "-n", "1", "--json", "--logprobs", "2"}).out).at(0);
  EXPECT_EQ(line["logprobs"].dump(),
            R"([{"token":53,"logprob":-0.5,"top":[{"token":53,"logprob":-0.5},)"
            R"({"token":54,"logprob":-1.5}]}])");
}

TEST(Run, ClosingTableFitsEightyColumns) {
  const Outcome outcome = ask("fake", {"-d", book(), "-a", "Who?", "-a", "Why?"});
  const size_t begin = outcome.err.find("\n #");
  ASSERT_NE(begin, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.substr(begin),
            "\n"
            " #  prompt  cached  answer   end  prefill s  first s  tokens/s  computed\n"
            " ───────────────────────────────────────────────────────────────────────\n"
            " 1      29       0      20  stop       0.50     0.62     400.0   100.0 %\n"
            " 2      55      29      20  stop       0.50     0.62     400.0   100.0 %\n"
            " prefill dense, compress plain, retrieve dense\n"
            " loaded in 0.25 s; 55 tokens read in 1.00 s (55 tokens/s); 40 written\n");
}

TEST(Run, ProgressIsABarOnATerminalAndNothingShortElsewhere) {
  const std::string long_book = temporary_file("long.txt", std::string(5000, 'x'));
  const Setting terminal{.err_terminal = true, .width = 80};
  const Outcome seen = ask("fake", {"-d", long_book, "-a", "Who?"}, terminal);
  EXPECT_NE(seen.err.find("\rreading  ██"), std::string::npos) << seen.err;
  EXPECT_NE(seen.err.find("tokens/s"), std::string::npos);
  EXPECT_NE(seen.err.find(" left\x1b[K"), std::string::npos);
  EXPECT_EQ(seen.out, "5008 tokens about Who?\n") << "answers alone on stdout";
  const Outcome logged = ask("fake", {"-d", long_book, "-a", "Who?"});
  EXPECT_EQ(logged.err.find('\r'), std::string::npos);
  EXPECT_EQ(logged.err.find('\x1b'), std::string::npos);
}

TEST(Run, DryRunLoadsNothing) {
  const Outcome text = ask("fake", {"-d", "none.txt", "-a", "x", "--dry-run", "--seed", "5"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("  seed                5\n"), std::string::npos) << text.out;
  EXPECT_NE(text.out.find("  top-p               0.9\n"), std::string::npos);
  EXPECT_NE(text.out.find("memory plan\n  weights    30.0 MiB\n"), std::string::npos);
  EXPECT_EQ(fake::log().loads, 0);
  const Json json = lines(ask("fake", {"-a", "x", "--dry-run", "--json"}).out).at(0);
  EXPECT_EQ(json["sampling"]["top_p"], 0.9);
  EXPECT_EQ(json["plan"]["fits"], true);
  EXPECT_EQ(json["prefill"], "dense");
}

TEST(Run, NeedsSomethingToAnswer) {
  const Outcome outcome = ask("fake", {"-d", book()});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_TRUE(outcome.err.starts_with("kvasir: error: run: expected something to answer"));
  EXPECT_EQ(fake::log().loads, 0);
}

TEST(Run, RefusesUnknownMethods) {
  const Outcome outcome = ask("fake", {"-a", "x", "--prefill", "dnese"});
  EXPECT_EQ(outcome.code, 3);
  EXPECT_TRUE(outcome.err.starts_with("kvasir: error: --prefill: no method 'dnese'; there is "));
  EXPECT_NE(outcome.err.find("did you mean 'dense'?"), std::string::npos);
  const Outcome option = ask("fake", {"-a", "x", "--compress", "plain:bits=4"});
  EXPECT_EQ(option.code, 2);
  EXPECT_EQ(option.err,
            "kvasir: error: --compress plain:bits: the method takes no options, found \"bits\"\n");
}

TEST(Run, WithoutATemplateSaysWhatToDo) {
  const Outcome outcome = ask("fake,no_template", {"-a", "x"});
  EXPECT_EQ(outcome.code, 5);
  EXPECT_NE(outcome.err.find("--prompt TEXT"), std::string::npos) << outcome.err;
  EXPECT_EQ(ask("fake,no_template", {"--prompt", "x"}).code, 0);
}

TEST(Run, ErrorsBecomeOneLineAndTheirExitCode) {
  const std::pair<const char*, int> codes[] = {
      {"invalid_argument", 2},   {"not_found", 3}, {"malformed", 4}, {"unsupported", 5},
      {"resource_exhausted", 6}, {"io", 7},        {"internal", 1}};
  for (const char* when : {"load_error", "submit_error", "answer_error"}) {
    for (const auto& [name, code] : codes) {
      const Outcome outcome = ask(std::string("fake,") + when + "=" + name, {"-a", "x", "--json"});
      EXPECT_EQ(outcome.code, code) << when << " " << name;
      EXPECT_EQ(outcome.err,
                std::string("kvasir: error: fake: expected luck, found ") + name + "\n");
      if (code == 7) continue;
      EXPECT_EQ(lines(outcome.out).at(0)["error"]["code"], name) << outcome.out;
    }
  }
}

TEST(Run, ErrorsArePrintableWhateverIsInThem) {
  const Outcome name = ask("fake", {"-d", "/no/\x1b[31m\n\xff", "-a", "x"});
  EXPECT_EQ(name.err, "kvasir: error: /no/ [31m ?: cannot open: No such file or directory\n");
  const std::string chat = temporary_file(
      "long.json", R"([{"role":"user","content":"x",")" + std::string(5000, 'x') + R"(":1}])");
  EXPECT_LT(ask("fake", {"--chat", chat}).err.size(), 1100u);
}

TEST(Run, AnswersBeforeAFailedOneArePrinted) {
  const Outcome outcome = ask("fake,answer_error=internal,bad_question=boom",
                              {"-a", "fine", "-a", "boom", "--as", "requests"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(outcome.out.starts_with("7 tokens about fine\n")) << outcome.out;
}

TEST(Run, SaysWhenOutputCannotBeWritten) {
  const Outcome outcome = ask("fake", {"-a", "x"}, {.fail_out_after = 4});
  EXPECT_EQ(outcome.code, 7);
  EXPECT_EQ(outcome.err, "kvasir: error: stdout: writing failed: No space left on device\n");
  EXPECT_EQ(fake::log().running, 0) << "the answer is given up";
}

}  // namespace
}  // namespace kvasir::cli
