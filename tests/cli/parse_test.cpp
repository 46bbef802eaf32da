#include <gtest/gtest.h>

#include "base/method.h"
#include "base/suggest.h"
#include "cli/harness.h"
#include "cli/options.h"

namespace kvasir::cli {
namespace {

Options parsed(std::vector<std::string> arguments) {
  Parsed result = parse_arguments(arguments);
  EXPECT_FALSE(result.text) << *result.text;
  return result.options;
}

// What parsing refuses with; "" where it does not.
std::string refusal(std::vector<std::string> arguments) {
  try {
    parse_arguments(arguments);
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
}

std::string run_refusal(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"run", "--model", "m"});
  return refusal(std::move(arguments));
}

TEST(Parse, ReadsEveryOptionOfRun) {
  const Options o = parsed({"run",
                            "-m",
                            "folder",
                            "-d",
                            "one.txt",
                            "--document=two.txt",
                            "--document-role",
                            "user",
                            "-a",
                            "Who?",
                            "--ask",
                            "-why-",
                            "--as",
                            "requests",
                            "--fit",
                            "tail",
                            "-n",
                            "17",
                            "--stop",
                            "END",
                            "--stop",
                            "\n\n",
                            "--stop-token",
                            "3",
                            "--stop-token",
                            "4",
                            "--ignore-end",
                            "--samples",
                            "2",
                            "--logprobs",
                            "5",
                            "--temperature",
                            "0.7",
                            "--top-k",
                            "40",
                            "--top-p",
                            "0.9",
                            "--min-p",
                            "0.05",
                            "--repetition-penalty",
                            "1.1",
                            "--presence-penalty",
                            "-0.5",
                            "--frequency-penalty",
                            "0.25",
                            "--seed",
                            "42",
                            "--prefill",
                            "dense:a=1,b=x=y",
                            "--compress",
                            "plain",
                            "--retrieve",
                            "quest:density=0.1",
                            "--device",
                            "cpu",
                            "--dtype",
                            "f32",
                            "--threads",
                            "3",
                            "--context",
                            "4096",
                            "--chunk",
                            "256",
                            "--max-sequences",
                            "8",
                            "--deterministic",
                            "--json",
                            "--dry-run"});
  EXPECT_EQ(o.command, Command::kRun);
  EXPECT_EQ(o.engine.model, "folder");
  EXPECT_EQ(o.run.documents, (std::vector<std::string>{"one.txt", "two.txt"}));
  EXPECT_EQ(o.run.document_role, "user");
  EXPECT_EQ(o.run.questions, (std::vector<std::string>{"Who?", "-why-"}));
  EXPECT_TRUE(o.run.as_requests);
  EXPECT_EQ(o.run.fit, "tail");
  const GenerationOptions& g = o.run.generation;
  EXPECT_EQ(g.max_tokens, 17);
  EXPECT_EQ(g.stop, (std::vector<std::string>{"END", "\n\n"}));
  EXPECT_EQ(g.stop_tokens, (std::vector<TokenId>{3, 4}));
  EXPECT_TRUE(g.ignore_end);
  EXPECT_EQ(g.samples, 2);
  EXPECT_EQ(g.logprobs, 5);
  const SamplingOptions s = g.sampling({});
  EXPECT_EQ(s.temperature, 0.7);
  EXPECT_EQ(s.top_k, 40);
  EXPECT_EQ(s.top_p, 0.9);
  EXPECT_EQ(s.min_p, 0.05);
  EXPECT_EQ(s.repetition_penalty, 1.1);
  EXPECT_EQ(s.presence_penalty, -0.5);
  EXPECT_EQ(s.frequency_penalty, 0.25);
  EXPECT_EQ(s.seed, 42u);
  EXPECT_EQ(method_text(g.stages.prefill), "dense:a=1,b=x=y");
  EXPECT_EQ(g.stages.compress.name, "plain");
  EXPECT_EQ(g.stages.retrieve.options.at("density"), "0.1");
  EXPECT_EQ(o.engine.device, "cpu");
  EXPECT_EQ(o.engine.dtype, "f32");
  EXPECT_EQ(o.engine.threads, 3);
  EXPECT_EQ(o.engine.context, 4096);
  EXPECT_EQ(o.engine.chunk, 256);
  EXPECT_EQ(o.engine.max_sequences, 8);
  EXPECT_TRUE(o.engine.deterministic);
  EXPECT_TRUE(o.json);
  EXPECT_TRUE(o.dry_run);
}

TEST(Parse, LeavesUnsetSamplingToTheModel) {
  const Options o = parsed({"run", "-m", "m", "-a", "x", "--top-k", "3"});
  SamplingOptions defaults{.temperature = 0.6, .top_k = 20, .top_p = 0.95, .min_p = 0.1};
  const SamplingOptions s = o.run.generation.sampling(defaults);
  EXPECT_EQ(s.temperature, 0.6);
  EXPECT_EQ(s.top_k, 3);
  EXPECT_EQ(s.top_p, 0.95);
  EXPECT_EQ(s.min_p, 0.1);
  EXPECT_EQ(o.run.generation.max_tokens, 256);
  EXPECT_EQ(o.run.fit, "error");
  EXPECT_EQ(o.run.document_role, "system");
  EXPECT_FALSE(o.run.as_requests) << "questions are turns by default";
}

TEST(Parse, ReadsTheOtherCommands) {
  const Options score = parsed({"score", "-m", "m", "text", "--context", "64", "--against",
                                "prefill=a:k=1,l=2;retrieve=b", "--dump-logits", "o.safetensors"});
  EXPECT_EQ(score.command, Command::kScore);
  EXPECT_EQ(score.score.file, "text");
  EXPECT_EQ(score.engine.context, 64);
  EXPECT_EQ(method_text(score.score.against->prefill), "a:k=1,l=2");
  EXPECT_EQ(score.score.against->compress.name, "plain");
  EXPECT_EQ(score.score.against->retrieve.name, "b");
  EXPECT_EQ(score.score.dump_logits, "o.safetensors");
  EXPECT_EQ(parsed({"score", "-m", "m", "--ids", "-"}).score.ids, "-");

  const Options info = parsed({"info", "-m", "m", "--context", "9", "--sequences", "3"});
  EXPECT_EQ(info.command, Command::kInfo);
  EXPECT_EQ(info.engine.context, 9);
  EXPECT_EQ(info.sequences, 3);

  const Options tokenize = parsed({"tokenize", "-m", "m", "f", "--no-special", "--decode"});
  EXPECT_EQ(tokenize.command, Command::kTokenize);
  EXPECT_TRUE(tokenize.tokenize.no_special);
  EXPECT_TRUE(tokenize.tokenize.decode);
  EXPECT_EQ(parsed({"methods"}).command, Command::kMethods);

  const Options bench =
      parsed({"bench", "prefill", "--shape", "1b", "--lengths", "512,8192", "--repetitions", "3"});
  EXPECT_EQ(bench.command, Command::kBench);
  EXPECT_EQ(bench.bench.what, "prefill");
  EXPECT_EQ(bench.bench.lengths, (std::vector<int64_t>{512, 8192}));

  const eval::RunOptions run = parsed({"bench",      "scbench",
                                       "-m",         "m",
                                       "--task",     "scbench_kv",
                                       "--task",     "scbench_vt",
                                       "--prefill",  "a_shape:local=n/8",
                                       "--compress", "plain",
                                       "--loading",  "recompute",
                                       "--mode",     "multi-request",
                                       "--answers",  "generated",
                                       "--turns",    "2",
                                       "--sessions", "7",
                                       "--data-dir", "d",
                                       "--prompt",   "file:p.json",
                                       "--out",      "o",
                                       "--resume",   "--seed",
                                       "3"})
                                   .bench.accuracy;
  EXPECT_EQ(run.tasks, (std::vector<std::string>{"scbench_kv", "scbench_vt"}));
  ASSERT_EQ(run.prefill.size(), 1u);
  EXPECT_EQ(run.prefill[0].options.at("local"), "n/8");
  EXPECT_EQ(run.compress.size(), 1u);
  EXPECT_EQ(run.loading, std::vector{eval::Loading::kRecompute});
  EXPECT_EQ(run.modes, std::vector{eval::Mode::kMultiRequest});
  EXPECT_EQ(run.answers, eval::Answers::kGenerated);
  EXPECT_EQ(run.turns, 2);
  EXPECT_EQ(run.sessions, 7);
  EXPECT_EQ(run.data_folder, "d");
  EXPECT_EQ(run.prompt_templates, "p.json");
  EXPECT_EQ(run.out, "o");
  EXPECT_TRUE(run.resume);
  EXPECT_EQ(run.seed, 3u);
}

TEST(Parse, NamesTheNearestWord) {
  EXPECT_EQ(refusal({"rnu"}), "unknown command 'rnu'; did you mean 'run'?");
  EXPECT_EQ(refusal({"xyzzy"}), "unknown command 'xyzzy'");
  EXPECT_EQ(run_refusal({"--aks", "x"}), "run: unknown option '--aks'; did you mean '--ask'?");
  EXPECT_EQ(run_refusal({"--max-token=3"}),
            "run: unknown option '--max-token'; did you mean '--max-tokens'?");
  EXPECT_EQ(run_refusal({"--temp", "1"}),
            "run: unknown option '--temp'; did you mean '--temperature'?");
  EXPECT_EQ(run_refusal({"--wibble"}), "run: unknown option '--wibble'");
  EXPECT_EQ(run_refusal({"book.txt"}), "run: unexpected argument 'book.txt'");
  EXPECT_EQ(run_refusal({"--device", "gpu"}),
            "--device: expected one of auto, cpu, cuda, found 'gpu'");
  EXPECT_EQ(run_refusal({"--as", "turn"}),
            "--as: expected one of turns, requests, found 'turn'; did you mean 'turns'?");
  EXPECT_EQ(refusal({"--jsno"}), "expected a command before '--jsno'");
  EXPECT_EQ(edit_distance("kvasir", "kvaisr"), 1);
  EXPECT_EQ(edit_distance("", "abc"), 3);
}

TEST(Parse, ChecksRanges) {
  const std::pair<std::vector<std::string>, const char*> cases[] = {
      {{"--temperature", "-1"}, "--temperature: expected at least 0, found -1"},
      {{"--temperature", "warm"}, "--temperature: expected a number, found 'warm'"},
      {{"--temperature", "nan"}, "--temperature: expected a number, found 'nan'"},
      {{"--temperature", "1e999"}, "--temperature: expected a number, found '1e999'"},
      {{"--top-p", "0"}, "--top-p: expected more than 0 and at most 1, found 0"},
      {{"--top-p", "1.5"}, "--top-p: expected more than 0 and at most 1, found 1.5"},
      {{"--min-p", "1"}, "--min-p: expected at least 0 and less than 1, found 1"},
      {{"--top-k", "-1"}, "--top-k: expected a whole number of at least 0, found -1"},
      {{"--repetition-penalty", "0"}, "--repetition-penalty: expected more than 0, found 0"},
      {{"--max-tokens", "0"}, "--max-tokens: expected a whole number of at least 1, found 0"},
      {{"--max-tokens", "3.5"}, "--max-tokens: expected a whole number, found '3.5'"},
      {{"--max-tokens", ""}, "--max-tokens: expected a whole number, found ''"},
      {{"--seed", "99999999999999999999"},
       "--seed: expected a whole number in range, found '99999999999999999999'"},
      {{"--samples", "1025"}, "--samples: expected a whole number from 1 to 1024, found 1025"},
      {{"--stop-token", "x"}, "--stop-token: expected a whole number, found 'x'"},
      {{"--stop", ""}, "--stop: expected a text, found an empty one"},
      {{"--chunk", "0"}, "--chunk: expected a whole number from 1 to 65536, found 0"},
      {{"--prefill", ""}, "--prefill: expected NAME or NAME:key=value,..., found ''"},
      {{"--prefill", "a:b"}, "--prefill: expected key=value after 'a:', found 'b'"},
      {{"--prefill", "a:b=1,b=2"}, "--prefill: 'b' is given twice in 'a:b=1,b=2'"}};
  for (const auto& [arguments, message] : cases) EXPECT_EQ(run_refusal(arguments), message);
  EXPECT_EQ(refusal({"bench", "decode", "--shape", "1b", "--lengths", "5,,6"}),
            "--lengths: expected a whole number, found ''");
  EXPECT_EQ(refusal({"score", "-m", "m", "f", "--against", "pref=dense"}),
            "--against: expected one of prefill, compress, retrieve, found 'pref'; did you mean "
            "'prefill'?");
}

TEST(Parse, RefusesConflictsAndWrongCounts) {
  EXPECT_EQ(run_refusal({"--ask", "a", "--prompt", "b"}),
            "run: expected one of --ask, --prompt, --chat and --batch");
  EXPECT_EQ(run_refusal({"--chat", "a", "--batch", "b"}),
            "run: expected one of --ask, --prompt, --chat and --batch");
  EXPECT_EQ(run_refusal({"-d", "-", "-d", "-", "-a", "x"}),
            "run: standard input (-) can be read only once");
  EXPECT_EQ(run_refusal({"-d", "-", "--batch", "-"}),
            "run: standard input (-) can be read only once");
  EXPECT_EQ(run_refusal({"--ask", ""}), "--ask: expected a question, found an empty text");
  EXPECT_EQ(run_refusal({"--prompt", ""}), "--prompt: expected a text, found an empty one");
  EXPECT_EQ(run_refusal({"-a", "x", "--logprobs", "1"}),
            "--logprobs: expected --json beside it: only there log-probabilities are shown");
  EXPECT_EQ(run_refusal({"--model", "n", "-a", "x"}), "--model: expected once, found 2 times");
  EXPECT_EQ(run_refusal({"--seed"}), "--seed: expected a value, found the end of the line");
  EXPECT_EQ(run_refusal({"--json=yes", "-a", "x"}),
            "--json: expected no value behind a switch, found one");
  EXPECT_EQ(refusal({"run", "-a", "x"}), "run: expected --model DIR, the folder of a model");
  EXPECT_EQ(refusal({"score", "-m", "m"}),
            "score: expected a FILE of text or --ids FILE, and not both");
  EXPECT_EQ(refusal({"score", "-m", "m", "f", "--ids", "g"}),
            "score: expected a FILE of text or --ids FILE, and not both");
  EXPECT_EQ(refusal({"bench", "-m", "m"}),
            "bench: expected what to measure: speed (prefill, decode, train, tokenizer, load) or "
            "accuracy (tasks, tiny, ruler, scbench, needle, perplexity)");
  EXPECT_EQ(refusal({"bench", "tiny", "-m", "m", "--questions", "9", "--sessions", "3"}),
            "--questions: expected this or --sessions, found both");
  EXPECT_EQ(refusal({"bench", "tiny", "-m", "m", "--resume"}),
            "--resume: expected --out DIR, the folder of the run to go on with");
  EXPECT_EQ(refusal({"bench", "tiny", "-m", "m", "--mode", "turns"}),
            "--mode: expected one of multi-turn, multi-request, found 'turns'");
  EXPECT_EQ(refusal({"bench", "tiny", "-m", "m", "--prompt", "mine.json"}),
            "--prompt: expected one of product, file:FILE, found 'mine.json'");
  EXPECT_EQ(refusal({"plan", "-m", "m", "--out", "o.svg"}),
            "plan: expected --document FILE, a text to read");
  EXPECT_EQ(refusal({"plan", "-m", "m", "-d", "t"}),
            "plan: expected --out FILE, where the drawing goes");
  EXPECT_EQ(refusal({"plan", "-m", "m", "-d", "t", "--out", "o.pdf"}),
            "--out: expected *.html, *.svg or *.png, found o.pdf");
  EXPECT_EQ(refusal({"plan", "-m", "m", "-d", "t", "--out", "o.svg", "--layer", "1"}),
            "plan: expected --layer and --head together, or neither");
  EXPECT_EQ(refusal({"completion"}), "completion: expected a shell: bash");
  EXPECT_EQ(refusal({"completion", "fish"}), "completion: expected one of bash, found 'fish'");
}

TEST(Parse, HelpShowsEveryOptionWithinItsWidth) {
  for (const std::string command :
       {"run", "score", "plan", "info", "tokenize", "methods", "bench", "completion"}) {
    for (const int width : {80, 100}) {
      const std::vector<std::string> arguments{command, "--help"};
      const std::string text = *parse_arguments(arguments, width).text;
      EXPECT_NE(text.find("Usage: kvasir " + command), std::string::npos);
      EXPECT_NE(text.find("130 interrupted"), std::string::npos)
          << "exit codes stand in every help";
      size_t begin = 0;
      for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
        EXPECT_LE(end - begin, static_cast<size_t>(width)) << text.substr(begin, end - begin);
    }
  }
  const std::vector<std::string> run_help{"run", "-h"}, top{"--help"};
  const std::string text = *parse_arguments(run_help).text;
  for (const char* option : {"--model",
                             "--document",
                             "--ask",
                             "--as ",
                             "--prompt",
                             "--chat",
                             "--batch",
                             "--max-tokens",
                             "--temperature",
                             "--top-k",
                             "--top-p",
                             "--min-p",
                             "--repetition-penalty",
                             "--presence-penalty",
                             "--frequency-penalty",
                             "--seed",
                             "--stop ",
                             "--stop-token",
                             "--logprobs",
                             "--samples",
                             "--prefill",
                             "--compress",
                             "--retrieve",
                             "--device",
                             "--dtype",
                             "--chunk",
                             "--fit",
                             "--deterministic",
                             "--dry-run",
                             "--json",
                             "--document-role"})
    EXPECT_NE(text.find(option), std::string::npos) << option;
  EXPECT_NE(parse_arguments(top).text->find("Exit codes: 0 done"), std::string::npos);
}

TEST(Parse, ShipsTheCompletionThatItPrints) {
  const Outcome printed = run({"completion", "bash"});
  EXPECT_EQ(printed.code, 0);
  EXPECT_EQ(printed.out,
            file_content(KVASIR_SOURCE_DIR "/share/bash-completion/completions/kvasir"))
      << "write it again: kvasir completion bash > share/bash-completion/completions/kvasir";
}

// The words that bash offers for a line whose last word is being typed.
std::string completions(const std::string& words) {
  const std::string script = KVASIR_SOURCE_DIR "/share/bash-completion/completions/kvasir";
  const std::string file =
      temporary_file("complete.sh", "source '" + script + "'; COMP_WORDS=(kvasir " + words +
                                        "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _kvasir; echo "
                                        "\"${COMPREPLY[@]}\"\n");
  FILE* pipe = ::popen(("bash '" + file + "'").c_str(), "r");
  char text[4096];
  const size_t size = ::fread(text, 1, sizeof text, pipe);
  ::pclose(pipe);
  return {text, size};
}

TEST(Parse, CompletionOffersCommandsOptionsAndValues) {
  EXPECT_EQ(completions("to"), "tokenize\n");
  EXPECT_EQ(completions("run --repe"), "--repetition-penalty\n");
  EXPECT_EQ(completions("run --fit m"), "middle\n");
  EXPECT_EQ(completions("bench pre"), "prefill\n");
  EXPECT_EQ(completions("score --samp"), "\n") << "an option of another command";
}

}  // namespace
}  // namespace kvasir::cli
