#include "cli/app.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/suggest.h"

namespace kvasir::cli {
namespace {

constexpr int64_t kMany = std::numeric_limits<int64_t>::max();
// What the engine takes at most.
constexpr int64_t kMostThreads = 1024, kMostChunk = 65536, kMostSequences = 4096;
constexpr int64_t kMostContext = int64_t{1} << 32;
constexpr int64_t kManyInt = std::numeric_limits<int32_t>::max();

std::string long_name(const std::string& names) {
  const size_t at = names.find("--");
  return at == std::string::npos ? names : names.substr(at, names.find(',', at) - at);
}

std::vector<std::string> split_choices(const std::string& text) {
  std::vector<std::string> words;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('|', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

// What a decimal may be.
struct Range {
  double least;
  bool least_is_open = false;
  double most = std::numeric_limits<double>::infinity();
  bool most_is_open = false;

  bool holds(double value) const {
    return (least_is_open ? value > least : value >= least) &&
           (most_is_open ? value < most : value <= most);
  }
  std::string words() const {
    std::string text = fmt::format("{} {}", least_is_open ? "more than" : "at least", least);
    if (std::isinf(most)) return text;
    return text + fmt::format(" and {} {}", most_is_open ? "less than" : "at most", most);
  }
};

// Adds options to one command. Every value is read by our own parsers, so that errors name the
// option, the expected and the found.
class Adder {
 public:
  explicit Adder(CLI::App& app) : app_(app) {}

  void group(std::string name) { group_ = std::move(name); }

  template <class Apply>
  CLI::Option* text(const std::string& names, const std::string& type, const std::string& help,
                    Apply apply) {
    auto* option = app_.add_option_function<std::string>(
        names, [apply](const std::string& value) { apply(value); }, help);
    option->type_name(type);
    if (!group_.empty()) option->group(group_);
    return option;
  }

  template <class Apply>
  void texts(const std::string& names, const std::string& type, const std::string& help,
             Apply apply) {
    auto* option = app_.add_option_function<std::vector<std::string>>(
        names,
        [apply](const std::vector<std::string>& values) {
          for (const std::string& value : values) apply(value);
        },
        help);
    option->type_name(type)->type_size(1)->expected(1)->allow_extra_args(false)->take_all();
    if (!group_.empty()) option->group(group_);
  }

  template <class Target>
  void integer(const std::string& names, const std::string& help, Target& target, int64_t least,
               int64_t most = kMany) {
    text(names, "N", help, [&target, name = long_name(names), least, most](const std::string& v) {
      target = static_cast<typename Value<Target>::type>(parse_integer(v, name, least, most));
    });
  }

  void number(const std::string& names, const std::string& help, std::optional<double>& target,
              const Range& range) {
    text(names, "X", help, [&target, name = long_name(names), range](const std::string& v) {
      const double value = parse_number(v, name);
      if (!range.holds(value))
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("expected {}, found {}", range.words(), v), name);
      target = value;
    });
  }

  template <class Target>
  void choice(const std::string& names, const std::string& words, const std::string& help,
              Target& target) {
    text(names, words, help, [&target, name = long_name(names), words](const std::string& v) {
      target = choose(name, v, split_choices(words));
    });
  }

  void flag(const std::string& names, const std::string& help, bool& target) {
    auto* option = app_.add_flag(names, target, help)->disable_flag_override();
    if (!group_.empty()) option->group(group_);
  }

 private:
  template <class T>
  struct Value {
    using type = T;
  };
  template <class T>
  struct Value<std::optional<T>> {
    using type = T;
  };

  CLI::App& app_;
  std::string group_;
};

void add_model(Adder& add, EngineOptions& engine) {
  add.group("Model");
  add.text("-m,--model", "DIR", "model folder as Hugging Face writes it",
           [&engine](const std::string& value) { engine.model = value; });
}

void add_device(Adder& add, EngineOptions& engine) {
  add.text("--device", "auto|cpu|cuda[:N]",
           "where the model runs (default: auto, the first GPU where there is one)",
           [&engine](const std::string& value) {
             const bool is_numbered = value.starts_with("cuda:");  // the engine reads the number
             engine.device =
                 is_numbered ? value : choose("--device", value, split_choices("auto|cpu|cuda"));
           });
}

void add_engine(Adder& add, EngineOptions& engine) {
  add_device(add, engine);
  add.text("--gpu-memory", "SHARE", "share of the GPU's memory to plan with (default: 0.9)",
           [&engine](const std::string& value) {
             engine.gpu_memory = parse_number(value, "--gpu-memory");
           });
  add.choice("--dtype", "auto|f32|bf16|f16",
             "number format of weights and KV (default: auto, what the device computes in)",
             engine.dtype);
  add.integer("--threads", "CPU threads (default: all that the process may use)", engine.threads, 1,
              kMostThreads);
}

void add_stages(Adder& add, StageChoice& stages) {
  add.group("Methods (kvasir methods lists them)");
  const auto stage = [&add](const std::string& name, MethodChoice& target,
                            const std::string& help) {
    add.text(name, "NAME[:KEY=VALUE,...]", help,
             [&target, name](const std::string& value) { target = parse_method(value, name); });
  };
  stage("--prefill", stages.prefill, "what a prompt's queries attend to (default: dense)");
  stage("--compress", stages.compress, "how keys and values are stored (default: plain)");
  stage("--retrieve", stages.retrieve, "what a decode step attends to (default: dense)");
}

void add_generation(Adder& add, GenerationOptions& generation) {
  add.group("Answer");
  add.integer("-n,--max-tokens", "longest answer, in tokens (default: 256)", generation.max_tokens,
              1);
  add.texts("--stop", "TEXT", "end the answer before this text; repeatable",
            [&generation](const std::string& value) {
              if (value.empty())
                throw Error(ErrorCode::kInvalidArgument, "expected a text, found an empty one",
                            "--stop");
              generation.stop.push_back(value);
            });
  add.texts("--stop-token", "ID", "end the answer at this token; repeatable",
            [&generation](const std::string& value) {
              generation.stop_tokens.push_back(
                  static_cast<TokenId>(parse_integer(value, "--stop-token", 0, kManyInt)));
            });
  add.flag("--ignore-end", "go on after the model's end token", generation.ignore_end);
  add.integer("--samples", "answers to each question (default: 1)", generation.samples, 1, 1024);
  add.integer("--logprobs", "log-probabilities of each token and of N others (with --json)",
              generation.logprobs, 0, 1000);

  add.group("Sampling (defaults: the model folder's, else greedy)");
  add.number("--temperature", "0 = greedy", generation.temperature, {.least = 0});
  add.integer("--top-k", "of the N most likely tokens; 0 = all", generation.top_k, 0);
  add.number("--top-p", "of the most likely tokens that make up this share", generation.top_p,
             {.least = 0, .least_is_open = true, .most = 1});
  add.number("--min-p", "of tokens at least this likely, relative to the likeliest",
             generation.min_p, {.least = 0, .most = 1, .most_is_open = true});
  add.number("--repetition-penalty", "over prompt and answer; 1 = off",
             generation.repetition_penalty, {.least = 0, .least_is_open = true});
  constexpr double kLowest = std::numeric_limits<double>::lowest();
  add.number("--presence-penalty", "over the answer; 0 = off", generation.presence_penalty,
             {.least = kLowest});
  add.number("--frequency-penalty", "over the answer; 0 = off", generation.frequency_penalty,
             {.least = kLowest});
  add.integer("--seed", "of the random numbers (default: 0)", generation.seed, 0);
}

void add_run(CLI::App& app, Options& options) {
  Adder add(app);
  RunOptions& run = options.run;
  add_model(add, options.engine);
  add_engine(add, options.engine);

  add.group("Text");
  add.texts("-d,--document", "FILE|-", "text to read; several are joined; PDF where pdftotext is",
            [&run](const std::string& value) { run.documents.push_back(value); });
  add.choice("--document-role", "system|user", "message that holds the document (default: system)",
             run.document_role);
  add.texts("-a,--ask", "TEXT", "a question; repeatable; none on a terminal: a dialogue",
            [&run](const std::string& value) { run.questions.push_back(value); });
  add.text("--as", "turns|requests",
           "questions as one conversation, or each alone behind the document (default: turns)",
           [&run](const std::string& value) {
             run.as_requests = choose("--as", value, split_choices("turns|requests")) == "requests";
           });
  add.text("--prompt", "TEXT", "continue this text as it is, without the chat template",
           [&run](const std::string& value) { run.prompt = value; });
  add.text("--chat", "FILE", "JSON list of messages {role, content} to answer",
           [&run](const std::string& value) { run.chat = value; });
  add.text("--batch", "FILE", "JSON lines, one request each, run side by side",
           [&run](const std::string& value) { run.batch = value; });
  add.choice("--fit", "error|middle|tail",
             "too long for the context: refuse, drop the document's middle, or keep its end "
             "(default: error)",
             run.fit);

  add_generation(add, run.generation);
  add_stages(add, run.generation.stages);

  add.group("Engine");
  add.integer("--context",
              "tokens of KV to plan for (default: the model's maximum; on a GPU, all that fits)",
              options.engine.context, 1, kMostContext);
  add.integer("--chunk",
              "prompt tokens in one step (default: 1024, on a GPU 8192; more where a method plans)",
              options.engine.chunk, 1, kMostChunk);
  add.integer("--max-sequences", "answers running at once (default: 64)",
              options.engine.max_sequences, 1, kMostSequences);
  add.flag("--deterministic", "bit-equal results whatever runs beside",
           options.engine.deterministic);
  add.group("Output");
  add.flag("--json", "one JSON object a question on stdout and nothing else", options.json);
  add.flag("--dry-run", "print the resolved options and the memory plan; load nothing",
           options.dry_run);
}

void add_score(CLI::App& app, Options& options) {
  Adder add(app);
  ScoreCommandOptions& score = options.score;
  add.text("FILE", "", "text to score, or -", [&score](const std::string& v) { score.file = v; });
  add_model(add, options.engine);
  add_engine(add, options.engine);
  add.group("Scoring");
  add.text("--ids", "FILE", "token ids apart by white space, instead of text; no tokenizer needed",
           [&score](const std::string& v) { score.ids = v; });
  add.integer("--context", "score in windows of N tokens (default: the model's maximum)",
              options.engine.context, 2, kMostContext);
  add.text("--against", "STAGE=NAME[:KEY=VALUE,...][;...]",
           "also score with these methods and give the KL divergence from the first",
           [&score](const std::string& v) {
             score.against = parse_stages(v, "--against");
             score.against_text = v;
           });
  add.text("--dump-logits", "OUT.safetensors", "write all logits [tokens, vocabulary] f32",
           [&score](const std::string& v) { score.dump_logits = v; });
  add_stages(add, score.stages);
  add.group("Engine");
  add.integer("--chunk",
              "tokens in one step (default: 1024, on a GPU 8192; more where a method plans)",
              options.engine.chunk, 1, kMostChunk);
  add.flag("--deterministic", "bit-equal results whatever the window",
           options.engine.deterministic);
  add.group("Output");
  add.flag("--json", "one JSON object on stdout", options.json);
}

void add_plan(CLI::App& app, Options& options) {
  Adder add(app);
  PlanOptions& plan = options.plan;
  add_model(add, options.engine);
  add.group("Prompt");
  add.text("-d,--document", "FILE|-", "text to read as a prompt",
           [&plan](const std::string& v) { plan.document = v; });
  add.text("--prefill", "NAME[:KEY=VALUE,...]",
           "the method (kvasir methods lists them; default: dense)",
           [&plan](const std::string& v) { plan.prefill = parse_method(v, "--prefill"); });
  add.group("Drawing");
  add.text("--out", "FILE", "where to: *.html, *.svg or *.png",
           [&plan](const std::string& v) { plan.out = v; });
  add.integer("--layer", "with --head: one head alone, larger", plan.layer, 0, kManyInt);
  add.integer("--head", "of the queries, from 0 on", plan.head, 0, kManyInt);
  add.group("Engine");
  add.integer("--chunk", "prompt tokens in one step (default: 1024; 8192 for methods that plan)",
              options.engine.chunk, 1, kMostChunk);
  add.integer("--threads", "CPU threads (default: all that the process may use)",
              options.engine.threads, 1, kMostThreads);
}

void add_info(CLI::App& app, Options& options) {
  Adder add(app);
  add_model(add, options.engine);
  add_engine(add, options.engine);
  add.group("Memory plan");
  add.integer("--context", "tokens of one sequence (default: the model's maximum)",
              options.engine.context, 1, kMostContext);
  add.integer("--sequences", "sequences of that length at once (default: 1)", options.sequences, 1,
              kMostSequences);
  add.integer("--chunk",
              "prompt tokens in one step (default: 1024, on a GPU 8192; more where a method plans)",
              options.engine.chunk, 1, kMostChunk);
  add.group("Output");
  add.flag("--json", "one JSON object on stdout", options.json);
}

void add_tokenize(CLI::App& app, Options& options) {
  Adder add(app);
  TokenizeOptions& tokenize = options.tokenize;
  add.text("FILE", "", "text, or ids with --decode; - = standard input (default: -)",
           [&tokenize](const std::string& v) { tokenize.file = v; });
  add_model(add, options.engine);
  add.group("Tokens");
  add.flag("--no-special", "add no special tokens; with --decode: leave them out of the text",
           tokenize.no_special);
  add.flag("--decode", "read ids and print their text", tokenize.decode);
  add.group("Output");
  add.flag("--json", "one JSON object: tokens, ids, pieces", options.json);
}

void add_lengths(Adder& add, std::vector<int64_t>& lengths) {
  add.text(
      "--lengths", "N,...", "tokens, apart by commas (default: a sweep)",
      [&lengths](const std::string& value) {
        std::string_view rest = value;
        while (true) {
          const size_t end = rest.find(',');
          lengths.push_back(parse_integer(rest.substr(0, end), "--lengths", 1, int64_t{1} << 40));
          if (end == std::string_view::npos) return;
          rest.remove_prefix(end + 1);
        }
      });
}

// What accuracy is measured on, and with which methods.
void add_accuracy(Adder& add, BenchFlags& bench, EngineOptions& engine) {
  eval::RunOptions& run = bench.accuracy;
  add.group("Accuracy");
  add.texts("--task", "NAME", "a task of the suite; repeatable (default: all)",
            [&run](const std::string& v) { run.tasks.push_back(v); });
  const auto method = [&add](const std::string& name, std::vector<MethodChoice>& list,
                             const std::string& help) {
    add.texts(name, "NAME[:KEY=VALUE,...]", help,
              [&list, name](const std::string& v) { list.push_back(parse_method(v, name)); });
  };
  method("--prefill", run.prefill,
         "beside dense; repeatable; stages are combined; n/8 = an eighth of the length");
  method("--compress", run.compress, "beside plain; repeatable");
  method("--retrieve", run.retrieve, "beside dense; repeatable");
  add.texts("--loading", "resident|recompute",
            "beside resident: every question computes its whole prompt; repeatable",
            [&run](const std::string& v) {
              const std::string name = choose("--loading", v, split_choices("resident|recompute"));
              run.loading.push_back(name == "resident" ? eval::Loading::kResident
                                                       : eval::Loading::kRecompute);
            });
  add.texts("--mode", "multi-turn|multi-request",
            "questions as one conversation, or each alone behind the context; repeatable",
            [&run](const std::string& v) {
              const std::string name =
                  choose("--mode", v, split_choices("multi-turn|multi-request"));
              run.modes.push_back(name == "multi-turn" ? eval::Mode::kMultiTurn
                                                       : eval::Mode::kMultiRequest);
            });
  add.text("--answers", "golden|generated",
           "what stands in a conversation as earlier answers (default: golden)",
           [&run](const std::string& v) {
             const std::string name = choose("--answers", v, split_choices("golden|generated"));
             run.answers = name == "golden" ? eval::Answers::kGolden : eval::Answers::kGenerated;
           });
  add.integer("--sessions", "of each task and length (default: the suite's)", run.sessions, 1,
              1000000);
  add.integer("--questions", "the same as a number of questions", bench.questions, 1, 1000000);
  add.integer("--turns", "questions of a session, at most (default: the suite's)", run.turns, 1,
              64);
  add.integer("--depths", "of a needle, evenly spread (default: 10)", run.depths, 1, 1000);
  add.integer("--seed", "of the sessions (default: 0)", run.seed, 0);
  add.flag("--question-inside", "tasks: the questions also stand in the document",
           run.question_inside);
  add.text("--data-dir", "DIR", "published files: SCBench's, squad.json, hotpot.json",
           [&run](const std::string& v) { run.data_folder = v; });
  add.text("--prompt", "file:FILE", "own prompts as JSON, by task (default: product)",
           [&run](const std::string& v) {
             if (v.starts_with("file:"))
               run.prompt_templates = v.substr(5);
             else
               choose("--prompt", v, split_choices("product|file:FILE"));
           });
  add.text("--out", "DIR", "where outcomes go (default: a new folder in bench-results)",
           [&run](const std::string& v) { run.out = v; });
  add.flag("--resume", "go on with the outcomes in --out", run.resume);
  add.integer("--context", "tokens of KV to plan for (default: of several sessions)",
              engine.context, 1, kMostContext);
  add.integer("--max-sequences", "sessions at once, at most (default: 64, on a CPU 8)",
              engine.max_sequences, 1, kMostSequences);
}

void add_bench(CLI::App& app, Options& options) {
  Adder add(app);
  BenchFlags& bench = options.bench;
  const std::string what = std::string(kBenchSpeed) + "|" + kBenchAccuracy;
  add.text("WHAT", what, "what to measure",
           [&bench, what](const auto& v) { bench.what = choose("bench", v, split_choices(what)); });
  add_model(add, options.engine);
  add_engine(add, options.engine);
  add.group("Measurement");
  add.choice("--shape", "16m|1b|8b",
             "a 16M, 1B or 8B Llama shape with random weights instead of the model", bench.shape);
  add_lengths(add, bench.lengths);
  add.text("-d,--document,--documents", "FILE|DIR",
           "text for the tokenizer, for perplexity; text or folder of texts that tasks hide in",
           [&bench](const std::string& v) { bench.document = v; });
  add.integer("--repetitions", "at least (default: 5)", bench.repetitions, 1, 1000000);
  add_accuracy(add, bench, options.engine);
  add.group("Output");
  add.flag("--json", "one JSON object on stdout", options.json);
  add.text("--record", "FILE", "also write the JSON here",
           [&bench](const std::string& v) { bench.record = v; });
}

void add_train(CLI::App& app, Options& options) {
  Adder add(app);
  TrainFlags& train = options.train;
  add.text("WHAT", kTrainWhat, "what to do",
           [&train](const auto& v) { train.what = choose("train", v, split_choices(kTrainWhat)); });
  add.group("Run");
  add.text("--recipe", "FILE", "the run as TOML, as in recipes/",
           [&train](const std::string& v) { train.recipe = v; });
  add.text("--corpus", "DIR", "folder of the texts NAME.txt (default: the recipe's)",
           [&train](const std::string& v) { train.corpus = v; });
  add.text("-o,--output", "DIR", "folder of what is made; of a manifest, its file",
           [&train](const std::string& v) { train.output = v; });
  add.flag("--resume", "go on from the latest checkpoint in --output", train.resume);
  add_device(add, options.engine);
  add.group("Several devices");
  add.integer("--processes", "one for each GPU of this host, started by this one (default: 1)",
              train.processes, 1, kMostThreads);
  add.integer("--rank", "of several hosts: which process this is, from 0 on", train.rank, 0,
              kMostThreads);
  add.text("--meet", "HOST:PORT|FILE",
           "of several hosts: process 0 listens there, or a new file that all see",
           [&train](const std::string& v) { train.meeting = v; });
  add.group("Run");
  add.integer("--threads", "CPU threads (default: all that the process may use)",
              options.engine.threads, 1, kMostThreads);
  add.group("Output");
  add.flag("--json", "one JSON object on stdout", options.json);
}

CLI::App& add_command(CLI::App& app, const char* name, const char* help) {
  CLI::App& command = *app.add_subcommand(name, help);
  command.allow_extras();
  command.set_help_flag("-h,--help", "show this help");
  return command;
}

}  // namespace

std::vector<std::string> option_choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  if (type.find('|') == std::string::npos || type == "FILE|-") return {};
  return split_choices(type);
}

std::unique_ptr<CLI::App> build_app(Options& options) {
  auto app = std::make_unique<CLI::App>("long-context engine: read once, ask often", "kvasir");
  app->allow_extras();
  app->require_subcommand(0, 1);  // behind one command, another's name is a word: `train run`
  app->set_help_flag("-h,--help", "show this help");
  app->add_flag_callback("--version", [] {}, "show the version");
  add_run(add_command(*app, "run", "read documents, answer questions"), options);
  add_score(add_command(*app, "score", "likelihood of a text; divergence between methods"),
            options);
  add_plan(add_command(*app, "plan", "draw what a prefill method attends to in a text"), options);
  add_info(add_command(*app, "info", "a model's architecture, memory plan and kernels"), options);
  add_tokenize(add_command(*app, "tokenize", "text to token ids and back"), options);
  CLI::App& methods =
      add_command(*app, "methods", "the methods of each stage and what they can do");
  Adder add_methods(methods);
  add_methods.group("Output");
  add_methods.flag("--json", "one JSON object on stdout", options.json);
  add_bench(add_command(*app, "bench", "measure speed and accuracy"), options);
  add_train(add_command(*app, "train", "train a model, prepare what it is trained on"), options);
  CLI::App& completion = add_command(*app, "completion", "print a shell completion script");
  Adder(completion).text("SHELL", "bash", "the shell", [](const std::string& value) {
    choose("completion", value, split_choices("bash"));
  });
  return app;
}

}  // namespace kvasir::cli
