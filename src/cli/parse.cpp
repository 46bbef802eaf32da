#include <fmt/format.h>

#include <algorithm>

#include "base/suggest.h"
#include "cli/app.h"
#include "cli/exit_codes.h"

#ifndef KVASIR_VERSION
#error "KVASIR_VERSION: the build defines it"
#endif

namespace kvasir::cli {
namespace {

[[noreturn]] void refuse(std::string_view what, std::string message) {
  throw Error(ErrorCode::kInvalidArgument, std::move(message), std::string(what));
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// What CLI11 says of a wrong number of values, in our words: "--model: At Most 1 required but
// received 2", "--seed: 1 required N missing", "json was given a disallowed flag override".
[[noreturn]] void refuse_mismatch(const CLI::App* command, const std::string& said) {
  const std::string option = said.substr(0, said.find_first_of(": "));
  if (said.ends_with("flag override"))
    refuse("--" + option, "expected no value behind a switch, found one");
  if (said.ends_with("missing")) refuse(option, "expected a value, found the end of the line");
  if (said.find("received") != std::string::npos)
    refuse(option, fmt::format("expected once, found {} times", said.substr(said.rfind(' ') + 1)));
  refuse(command ? command->get_name() : "", said);
}

// Everything that is left over is a mistake: name it, and what was probably meant.
void refuse_extras(CLI::App& app, const CLI::App* command) {
  if (command == nullptr) {
    const std::vector<std::string> rest = app.remaining(true);
    if (rest.empty()) refuse("", "expected a command; kvasir --help lists them");
    std::vector<std::string> names;
    for (const CLI::App* each : app.get_subcommands([](CLI::App*) { return true; }))
      names.push_back(each->get_name());
    if (rest.front().starts_with("-"))
      refuse("", fmt::format("expected a command before '{}'", rest.front()));
    refuse("",
           fmt::format("unknown command '{}'{}", rest.front(), did_you_mean(rest.front(), names)));
  }
  const std::vector<std::string> rest = app.remaining(true);
  if (rest.empty()) return;
  const std::string name = command->get_name();
  const auto flag = std::find_if(rest.begin(), rest.end(), [](const std::string& word) {
    return word.size() > 1 && word.front() == '-';
  });
  if (flag == rest.end()) refuse(name, fmt::format("unexpected argument '{}'", rest.front()));
  const std::string word = flag->substr(0, flag->find('='));
  refuse(name,
         fmt::format("unknown option '{}'{}", word, did_you_mean(word, option_names(*command))));
}

void check_run(const RunOptions& run) {
  const int ways = (run.questions.empty() ? 0 : 1) + (run.prompt ? 1 : 0) + (run.chat ? 1 : 0) +
                   (run.batch ? 1 : 0);
  if (ways > 1) refuse("run", "expected one of --ask, --prompt, --chat and --batch");
  int standard_inputs =
      static_cast<int>(std::count(run.documents.begin(), run.documents.end(), "-"));
  standard_inputs += (run.chat == "-") + (run.batch == "-");
  if (standard_inputs > 1) refuse("run", "standard input (-) can be read only once");
  if (run.prompt && run.prompt->empty() && run.documents.empty())
    refuse("--prompt", "expected a text, found an empty one");
  for (const std::string& question : run.questions)
    if (question.empty()) refuse("--ask", "expected a question, found an empty text");
}

void check_plan(const PlanOptions& plan) {
  if (plan.document.empty()) refuse("plan", "expected --document FILE, a text to read");
  if (plan.out.empty()) refuse("plan", "expected --out FILE, where the drawing goes");
  const std::string extension = std::filesystem::path(plan.out).extension();
  if (extension != ".html" && extension != ".svg" && extension != ".png")
    refuse("--out", fmt::format("expected *.html, *.svg or *.png, found {}", plan.out));
  if (plan.layer.has_value() != plan.head.has_value())
    refuse("plan", "expected --layer and --head together, or neither");
}

void check_train(const TrainFlags& train) {
  if (train.what.empty()) refuse("train", fmt::format("expected what to do: {}", kTrainWhat));
  const bool is_manifest = train.what == "manifest";
  if (!is_manifest && train.recipe.empty()) refuse("train", "expected --recipe FILE");
  if (is_manifest && !train.recipe.empty())
    refuse("--recipe", "expected none: a manifest is made of --corpus DIR alone");
  if (is_manifest && train.corpus.empty()) refuse("train", "expected --corpus DIR");
  if (train.rank && *train.rank >= train.processes)
    refuse("--rank", "expected less than --processes");
  if (train.rank.has_value() != !train.meeting.empty())
    refuse(train.rank ? "--rank" : "--meet",
           "expected --rank N and --meet HOST:PORT or FILE together");
  if (train.output.empty())
    refuse("train", is_manifest ? "expected --output FILE" : "expected --output DIR");
}

void check_bench(const BenchFlags& bench) {
  if (bench.questions > 0 && bench.accuracy.sessions > 0)
    refuse("--questions", "expected this or --sessions, found both");
  if (bench.accuracy.resume && bench.accuracy.out.empty())
    refuse("--resume", "expected --out DIR, the folder of the run to go on with");
}

void check(const Options& options, const std::string& name) {
  if (options.run.generation.logprobs && !options.json)
    refuse("--logprobs", "expected --json beside it: only there log-probabilities are shown");
  const bool needs_model = options.command != Command::kMethods &&
                           options.command != Command::kTrain &&
                           options.command != Command::kCompletion &&
                           !(options.command == Command::kBench && !options.bench.shape.empty());
  if (needs_model && options.engine.model.empty())
    refuse(name, "expected --model DIR, the folder of a model");
  if (options.command == Command::kRun) check_run(options.run);
  if (options.command == Command::kPlan) check_plan(options.plan);
  if (options.command == Command::kScore &&
      options.score.file.empty() == !options.score.ids.has_value())
    refuse(name, "expected a FILE of text or --ids FILE, and not both");
  if (options.command == Command::kBench && options.bench.what.empty())
    refuse(name,
           "expected what to measure: speed (prefill, decode, train, tokenizer, load) or accuracy "
           "(tasks, tiny, ruler, scbench, needle, perplexity)");
  if (options.command == Command::kBench) check_bench(options.bench);
  if (options.command == Command::kTrain) check_train(options.train);
}

// What the engine is told that requests will ask for.
MethodChoice prefill_of(const Options& options) {
  if (options.command == Command::kRun) return options.run.generation.stages.prefill;
  if (options.command == Command::kPlan) return options.plan.prefill;
  if (options.command != Command::kScore) return {"dense", {}};
  const bool is_dense = options.score.stages.prefill.name == "dense";
  return is_dense && options.score.against ? options.score.against->prefill
                                           : options.score.stages.prefill;
}

}  // namespace

Parsed parse_arguments(std::span<const std::string> arguments, int width) {
  Parsed parsed;
  Options& options = parsed.options;
  const std::unique_ptr<CLI::App> app = build_app(options);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  const auto commands = app->get_subcommands([](CLI::App*) { return true; });
  const auto chosen = [&]() -> CLI::App* {
    const auto list = app->get_subcommands();
    return list.empty() ? nullptr : list.front();
  };
  try {
    app->parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    const CLI::App* command = chosen();
    parsed.text = help_text(command ? *command : *app, width);
    return parsed;
  } catch (const CLI::ArgumentMismatch& error) {
    refuse_mismatch(chosen(), error.what());
  } catch (const CLI::ParseError& error) {
    const CLI::App* command = chosen();
    refuse(command ? command->get_name() : "", error.what());
  }
  if (app->count("--version") > 0) {
    parsed.text = "kvasir " KVASIR_VERSION "\n";
    return parsed;
  }
  CLI::App* command = chosen();
  refuse_extras(*app, command);
  const auto place = std::find(commands.begin(), commands.end(), command);
  options.command = static_cast<Command>(place - commands.begin());
  check(options, command->get_name());
  options.engine.prefill = prefill_of(options);
  if (options.command == Command::kCompletion) {
    if (command->count("SHELL") == 0) refuse("completion", "expected a shell: bash");
    parsed.text = completion_script(*app);
  }
  return parsed;
}

}  // namespace kvasir::cli
