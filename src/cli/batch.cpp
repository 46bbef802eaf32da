#include "cli/batch.h"

#include <fmt/format.h>

#include <map>

#include "cli/answers.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"

namespace kvasir::cli {
namespace {

// Requests are made ready as room comes free, so that the prompts of a long file are not all in
// memory; results wait only for those before them.
class BatchRun {
 public:
  BatchRun(Engine& engine, const Options& options, const std::vector<BatchLine>& lines,
           const std::string& document, Environment& environment)
      : engine_(engine),
        options_(options),
        lines_(lines),
        document_(document),
        environment_(environment),
        start_(environment.seconds()),
        progress_(environment.progress_options(), "batch", Progress::Unit::kRequests),
        states_(lines.size()) {}

  int run() {
    const auto room = static_cast<size_t>(2 * options_.engine.max_sequences);
    while (next_ < lines_.size() || answers_.size() > 0) {
      while (next_ < lines_.size() && answers_.size() < room && !environment_.interrupts->pending())
        submit(next_++);
      print();
      if (environment_.interrupts->pending() && answers_.size() == 0) break;
      answers_.poll([this](size_t index, const Event& event) { take(index, event); },
                    *environment_.interrupts);
    }
    print();
    progress_.clear();
    if (answers_.was_cancelled() || environment_.interrupts->pending()) {
      environment_.say("kvasir: interrupted\n");
      return environment_.interrupts->exit_status();
    }
    environment_.say(fmt::format("{} requests, {} failed; {} tokens read, {} written in {:.2f} s\n",
                                 lines_.size(), failed_, with_thousands(read_),
                                 with_thousands(written_), environment_.seconds() - start_));
    return exit_;
  }

 private:
  struct State {
    std::vector<SampleResult> samples;
    std::optional<Error> error;
    bool ended = false;
  };

  // The whole document of a line and its prompts; the last one is kept, because neighbours usually
  // share it.
  PromptMaker& prompts_for(const BatchLine& line) {
    std::string key = line.document_text ? "=" + *line.document_text : "";
    for (const std::string& path : line.documents) key += "|" + path;
    if (prompts_ && key == prompts_key_) return *prompts_;
    std::string text = line.document_text       ? *line.document_text
                       : line.documents.empty() ? document_
                                                : read_documents(line.documents, environment_);
    prompts_.emplace(engine_, options_, std::move(text), options_.run.document_role, environment_);
    prompts_key_ = std::move(key);
    return *prompts_;
  }

  void submit(size_t index) {
    const BatchLine& line = lines_[index];
    State& state = states_[index];
    state.samples.resize(static_cast<size_t>(line.generation.samples));
    try {
      answers_.add(
          index, engine_.submit(line.generation.request(prompt_of(line), engine_.info().sampling)));
    } catch (const Error& error) {
      fail(state, error);
    }
  }

  std::vector<TokenId> prompt_of(const BatchLine& line) {
    PromptMaker& prompts = prompts_for(line);
    const int64_t max_tokens = line.generation.max_tokens;
    if (line.prompt) return prompts.raw(*line.prompt, max_tokens);
    if (line.ask) return prompts.chat({{"user", *line.ask}}, max_tokens);
    return prompts.chat(line.messages, max_tokens);
  }

  void fail(State& state, const Error& error) {
    if (!state.error) state.error = error;
    state.ended = true;
  }

  void take(size_t index, const Event& event) {
    State& state = states_[index];
    if (event.kind == Event::Kind::kProgress) return;
    SampleResult& sample = state.samples.at(static_cast<size_t>(event.sample));
    sample.take(event);
    if (event.kind != Event::Kind::kFinished) return;
    if (event.finish_reason == FinishReason::kError)
      state.error = event.error.value_or(Error(ErrorCode::kInternal, "an error that says nothing"));
    state.ended = true;
    for (const SampleResult& each : state.samples) state.ended = state.ended && each.finished;
  }

  void print() {
    for (; printed_ < states_.size() && states_[printed_].ended; ++printed_) {
      progress_.clear();
      const BatchLine& line = lines_[printed_];
      State& state = states_[printed_];
      const Json id = line.id_json.empty() ? Json(line.line) : Json::parse(line.id_json);
      if (state.error) {
        ++failed_;
        if (exit_ == kExitOk) exit_ = exit_code(state.error->code());
        environment_.complain(fmt::format("line {}: {}", line.line, state.error->what()));
        environment_.out->write(json_line({{"id", id}, {"error", error_json(*state.error)}}));
      }
      for (size_t i = 0; i < state.samples.size() && !state.error; ++i) {
        const Usage& usage = state.samples[i].usage;
        written_ += usage.completion_tokens;
        if (i == 0) read_ += usage.prompt_tokens - usage.cached_tokens;
        Json object = {{"id", id}};
        object.update(answer_json({.result = state.samples[i],
                                   .load_seconds = engine_.info().load_seconds,
                                   .sample = state.samples.size() > 1
                                                 ? std::optional<int>(static_cast<int>(i))
                                                 : std::nullopt,
                                   .logprobs = line.generation.logprobs.has_value()}));
        environment_.out->write(json_line(object));
      }
      state = {.ended = true};
    }
    progress_.update(static_cast<int64_t>(printed_), static_cast<int64_t>(states_.size()));
  }

  Engine& engine_;
  const Options& options_;
  const std::vector<BatchLine>& lines_;
  const std::string& document_;
  Environment& environment_;
  const double start_;
  Progress progress_;
  std::vector<State> states_;
  AnswerSet answers_;
  std::optional<PromptMaker> prompts_;
  std::string prompts_key_;
  size_t next_ = 0, printed_ = 0;
  int64_t failed_ = 0, read_ = 0, written_ = 0;
  int exit_ = kExitOk;
};

}  // namespace

int run_batch(Engine& engine, const Options& options, const std::vector<BatchLine>& lines,
              const std::string& document, Environment& environment) {
  return BatchRun(engine, options, lines, document, environment).run();
}

}  // namespace kvasir::cli
