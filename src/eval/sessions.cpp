#include "eval/sessions.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "eval/documents.h"

namespace kvasir::eval {
namespace {

tasks::Haystack haystack_of(const std::filesystem::path& documents) {
  if (documents.empty()) return tasks::Haystack::made_up();
  return tasks::Haystack::load(document_files(documents)).value();
}

// Whether sessions come as they are published.
bool is_published(const RunOptions& options) {
  return options.suite == "scbench" && !options.data_folder.empty();
}

bool has_file(const RunOptions& options, std::string_view task) {
  const auto exists = [&](const std::string& name) {
    return !options.data_folder.empty() && std::filesystem::exists(options.data_folder / name);
  };
  if (options.suite == "ruler") return exists(task == "qa_1" ? "squad.json" : "hotpot.json");
  const std::string file = std::string(task) + ".jsonl";
  return exists("data/" + file) || exists(file);
}

std::vector<std::string> all_tasks(const RunOptions& options,
                                   const std::function<void(const std::string&)>& note) {
  std::vector<std::string> names, missing;
  for (const tasks::Task& task : tasks::find_suite(options.suite).value()->tasks) {
    if (options.suite == "tiny" && task.name == "mqar") continue;  // for training
    if ((task.needs_file || is_published(options)) && !has_file(options, task.name))
      missing.emplace_back(task.name);
    else
      names.emplace_back(task.name);
  }
  if (!missing.empty())
    note(fmt::format("left out, as {} no file in --data-dir: {}",
                     missing.size() == 1 ? "it has" : "they have", fmt::join(missing, ", ")));
  return names;
}

// Prompts in the ids of the tiny tasks have answers of their length; as words they take more.
int64_t tiny_new_tokens(const Engine& engine, const tasks::Turn& turn, int64_t most) {
  if (speaks_tiny_ids(engine.info())) return most;
  return std::max(most, std::ssize(engine.tokenize(turn.golden(), false)) + 8);
}

}  // namespace

int64_t Session::most_tokens(Mode mode, Answers answers) const {
  const SessionPrompts& made = *prompts.at(mode);
  int64_t most = 0;
  if (mode == Mode::kMultiRequest) {
    for (size_t turn = 0; turn < sample.turns.size(); ++turn)
      most = std::max(most, std::ssize(made.alone(turn)) + new_tokens[turn]);
    return most;
  }
  std::vector<std::string> golden;
  for (size_t turn = 0; turn + 1 < sample.turns.size(); ++turn) {
    golden.push_back(sample.turns[turn].golden());
    if (answers == Answers::kGenerated) most += new_tokens[turn];
  }
  return most + std::ssize(made.after(golden)) + std::ranges::max(new_tokens);
}

SuiteDefaults suite_defaults(std::string_view suite) {
  const std::vector<Mode> conversation{Mode::kMultiTurn}, requests{Mode::kMultiRequest};
  if (suite == "tasks") return {{4096, 16384}, requests, 75, 4};
  if (suite == "tiny") return {{1024}, {Mode::kMultiTurn, Mode::kMultiRequest}, 40, 5};
  if (suite == "ruler") return {{4096, 16384}, conversation, 50, 1};
  if (suite == "needle") return {{4096, 8192, 16384, 32768}, conversation, 3, 1};
  if (suite == kPerplexity) return {{2048, 8192, 32768}, {}, 10, 1};
  return {{16384}, conversation, 100, 5};
}

namespace {

void check_perplexity(const RunOptions& options) {
  if (options.documents.empty())
    throw Error(ErrorCode::kInvalidArgument, "expected a text or a folder of texts to predict",
                "--documents");
  if (!options.tasks.empty() || options.resume)
    throw Error(ErrorCode::kInvalidArgument, "expected neither --task nor --resume",
                "bench perplexity");
}

void fill_tasks(RunOptions& options, const std::function<void(const std::string&)>& note) {
  tasks::find_suite(options.suite).value();
  for (const std::string& task : options.tasks) tasks::find_task(options.suite, task).value();
  if (options.tasks.empty()) options.tasks = all_tasks(options, note);
  if (options.tasks.empty())
    throw Error(ErrorCode::kNotFound, "expected files of published sessions, found none",
                options.data_folder.string());
}

}  // namespace

RunOptions resolved(RunOptions options, int64_t most_tokens,
                    const std::function<void(const std::string&)>& note) {
  const SuiteDefaults defaults = suite_defaults(options.suite);
  if (options.suite == kPerplexity)
    check_perplexity(options);
  else
    fill_tasks(options, note);
  for (const int64_t length : options.lengths)
    if (length > most_tokens)
      throw Error(
          ErrorCode::kResourceExhausted,
          fmt::format("expected at most the model's {} positions, found {}", most_tokens, length),
          "--lengths");
  if (options.lengths.empty() && is_published(options)) options.lengths = {0};
  if (options.lengths.empty()) {
    options.lengths = defaults.lengths;
    std::erase_if(options.lengths, [&](int64_t length) { return length > most_tokens; });
    if (options.lengths.empty()) options.lengths = {most_tokens};
  }
  if (options.modes.empty()) options.modes = defaults.modes;
  if (options.sessions == 0) options.sessions = defaults.sessions;
  if (options.turns == 0) options.turns = defaults.turns;
  if (options.depths == 0) options.depths = 10;
  return options;
}

SessionSource::SessionSource(const RunOptions& options, const Engine& engine, Note note)
    : options_(options),
      engine_(engine),
      note_(std::move(note)),
      haystack_(haystack_of(options.documents)) {
  if (!options.prompt_templates.empty())
    templates_ = load_templates(options.prompt_templates).value();
  const bool has_depths = options.suite == "needle";
  for (const std::string& name : options.tasks)
    for (const int64_t length : options.lengths) {
      const tasks::Task* task = tasks::find_task(options.suite, name).value();
      if (!has_depths) {
        cells_.push_back({task, length, -1, 0});
        continue;
      }
      for (int64_t i = 0; i < options.depths; ++i)
        cells_.push_back({task, length,
                          options.depths == 1
                              ? 0.5
                              : static_cast<double>(i) / static_cast<double>(options.depths - 1),
                          i * options.sessions});
    }
  if (!is_published(options)) leave_out_what_does_not_fit();
  for (const Cell& cell : cells_)
    if (is_published(options) && !has_file(options, cell.task->name)) make_generator(cell);
  remaining_ = std::ssize(cells_) * options.sessions;
}

// So that nothing fails when half of a run is done.
void SessionSource::leave_out_what_does_not_fit() {
  std::optional<Error> last;
  std::erase_if(cells_, [&](const Cell& cell) {
    const auto sample = make_generator(cell)->sample(options_.seed, 0);
    if (sample) return false;
    if (sample.error().code() != ErrorCode::kResourceExhausted) throw sample.error();
    last = sample.error();
    note_(fmt::format("left out {} at {} tokens: {}", cell.task->name, cell.length, last->what()));
    return true;
  });
  if (cells_.empty()) throw *last;
}

tasks::GeneratorOptions SessionSource::generator_options(const Cell& cell) const {
  return {.target_tokens = cell.length,
          .count =
              [this](std::string_view text) {
                return std::ssize(engine_.tokenize(text, false, false));
              },
          .turns = static_cast<int>(options_.turns),
          .haystack = &haystack_,
          .key_space = tasks::KeySpace::kEvaluation,
          .question_inside = options_.question_inside,
          .depth = cell.depth};
}

std::unique_ptr<tasks::Generator> SessionSource::make_generator(const Cell& cell) const {
  return tasks::make_generator(options_.suite, cell.task->name, generator_options(cell),
                               {.data_folder = options_.data_folder})
      .value();
}

std::shared_ptr<const Session> SessionSource::next() {
  for (; cell_ < cells_.size(); ++cell_, in_cell_ = 0, generator_.reset()) {
    const Cell& cell = cells_[cell_];
    if (in_cell_ == options_.sessions) continue;
    if (!generator_) generator_ = make_generator(cell);
    auto sample = generator_->sample(options_.seed, static_cast<uint64_t>(in_cell_));
    if (!sample) {  // the end of a file, or an odd session that does not fit
      if (!is_published(options_)) note_(sample.error().what());
      remaining_ -= options_.sessions - in_cell_;
      in_cell_ = options_.sessions;
      continue;
    }
    --remaining_;
    return make_session(cell, std::move(sample).value(), cell.first_index + in_cell_++);
  }
  return nullptr;
}

std::shared_ptr<const Session> SessionSource::make_session(const Cell& cell, tasks::Sample sample,
                                                           int64_t index) const {
  auto session = std::make_shared<Session>();
  session->task = cell.task;
  session->length = cell.length;
  session->depth = cell.depth;
  session->index = index;
  session->sample = std::move(sample);
  std::vector<tasks::Turn>& turns = session->sample.turns;
  if (std::ssize(turns) > options_.turns) turns.resize(static_cast<size_t>(options_.turns));
  int64_t answer_tokens = 0;
  for (const tasks::Turn& turn : turns) {
    int64_t most = tasks::new_tokens_of(*cell.task, session->sample, turn);
    if (options_.suite == "tiny") most = tiny_new_tokens(engine_, turn, most);
    session->new_tokens.push_back(most);
    answer_tokens += most;
  }
  PromptMaking making{.engine = &engine_, .templates = &templates_};
  if (is_published(options_))
    making.limit =
        std::min(cell.length > 0 ? cell.length : kMostOfFile, engine_.info().plan.context);
  session->full_length = std::max(cell.length, making.limit);
  for (const Mode mode : options_.modes)
    session->prompts[mode] =
        make_prompts(session->sample, options_.suite, mode, answer_tokens, making);
  return session;
}

}  // namespace kvasir::eval
