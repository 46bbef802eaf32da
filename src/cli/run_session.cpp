#include "cli/run_session.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/closing_table.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"

namespace kvasir::cli {
namespace {

// The progress of prompts that are read side by side, as one.
class ReadingProgress {
 public:
  ReadingProgress(const Environment& environment, size_t requests)
      : bar_(environment.progress_options(), "reading"), done_(requests), total_(requests) {}

  void take(size_t request, const Event& event) {
    done_[request] = event.prompt_done;
    total_[request] = event.prompt_total;
    int64_t done = 0, total = 0;
    for (size_t i = 0; i < done_.size(); ++i) {
      done += done_[i];
      total += total_[i];
    }
    bar_.update(done, total);
  }
  void clear() { bar_.clear(); }

 private:
  Progress bar_;
  std::vector<int64_t> done_, total_;
};

[[noreturn]] void throw_error_of(const SampleResult& result) {
  throw result.error.value_or(
      Error(ErrorCode::kInternal, "the answer ended with an error that says nothing"));
}

}  // namespace

int64_t reserve_for(int64_t turns, int64_t max_tokens, int64_t limit) {
  constexpr int64_t kQuestionTokens = 64;  // a question and what the template puts around it
  return std::min(turns * (max_tokens + kQuestionTokens), limit / 4);
}

RunSession::RunSession(Engine& engine, const Options& options, Environment& environment)
    : engine_(engine), options_(options), environment_(environment) {}

bool RunSession::read_ahead(std::vector<TokenId> prefix) {
  if (prefix.empty()) return true;
  GenerationOptions generation;
  generation.max_tokens = 1;
  generation.stages = options_.run.generation.stages;
  ReadingProgress progress(environment_, 1);
  AnswerSet answers;
  SampleResult result;
  answers.add(0, engine_.submit(generation.request(std::move(prefix), {})));
  answers.drain(
      [&](size_t, const Event& event) {
        if (event.kind == Event::Kind::kProgress) progress.take(0, event);
        result.take(event);
      },
      *environment_.interrupts);
  progress.clear();
  if (result.finish_reason == FinishReason::kError) throw_error_of(result);
  interrupted_ = answers.was_cancelled();
  if (!interrupted_)
    environment_.say(fmt::format("read {} tokens in {:.1f} s\n",
                                 with_thousands(result.usage.prompt_tokens),
                                 result.timing.prefill_seconds));
  return !interrupted_;
}

std::vector<SampleResult> RunSession::ask(std::vector<Question> questions) {
  const GenerationOptions& generation = options_.run.generation;
  const auto samples = static_cast<size_t>(generation.samples);
  std::vector<SampleResult> results(questions.size() * samples);
  ReadingProgress progress(environment_, questions.size());
  AnswerSet answers;

  const auto label = [&](size_t channel) {
    const std::string number = std::to_string(asked_ + static_cast<int64_t>(channel / samples) + 1);
    return samples == 1 ? number : fmt::format("{}.{}", number, channel % samples + 1);
  };
  OrderedText printed(
      options_.json ? 0 : results.size(),
      [&](std::string_view text) {
        progress.clear();
        environment_.out->write(text);
      },
      [&](size_t channel) {
        progress.clear();
        const Question& question = questions[channel / samples];
        if (show_questions_ && question.text && channel % samples == 0)
          environment_.say(fmt::format("> {}\n", *question.text));
        if (samples > 1) environment_.say(fmt::format("[{}]\n", label(channel)));
      });
  size_t next_line = 0;  // with --json: results are printed whole, in order
  const auto print_lines = [&] {
    for (; next_line < results.size() && results[next_line].finished; ++next_line) {
      const SampleResult& result = results[next_line];
      if (result.error && result.finish_reason == FinishReason::kError) return;
      progress.clear();
      const AnswerJson line{
          .result = result,
          .load_seconds = engine_.info().load_seconds,
          .sample = samples > 1 ? std::optional<int>(next_line % samples) : std::nullopt,
          .logprobs = generation.logprobs.has_value()};
      environment_.out->write(json_line(answer_json(line)));
    }
  };

  for (size_t i = 0; i < questions.size(); ++i)
    answers.add(i, engine_.submit(generation.request(std::move(questions[i].prompt),
                                                     engine_.info().sampling)));
  answers.drain(
      [&](size_t question, const Event& event) {
        if (event.kind == Event::Kind::kProgress) return progress.take(question, event);
        const size_t channel = question * samples + static_cast<size_t>(event.sample);
        results.at(channel).take(event);
        if (options_.json) return print_lines();
        printed.append(channel, event.text);
        if (event.kind == Event::Kind::kFinished) printed.finish(channel);
      },
      *environment_.interrupts);
  progress.clear();
  interrupted_ = interrupted_ || answers.was_cancelled();
  for (size_t channel = 0; channel < results.size(); ++channel) {
    const SampleResult& result = results[channel];
    if (result.finish_reason == FinishReason::kError) throw_error_of(result);
    kept_.push_back({label(channel), result});
  }
  asked_ += static_cast<int64_t>(questions.size());
  return results;
}

void RunSession::close() {
  std::vector<TableEntry> entries;
  for (const Kept& kept : kept_) entries.push_back({kept.label, &kept.result});
  if (!entries.empty()) environment_.say(closing_table(entries, engine_.info().load_seconds));
  if (exit_status() != kExitOk) environment_.say("kvasir: interrupted\n");
}

int RunSession::exit_status() const {
  const Interrupts& interrupts = *environment_.interrupts;
  return interrupted_ || interrupts.must_end() ? interrupts.exit_status() : kExitOk;
}

void run_turns(RunSession& session, PromptMaker& prompts, const Options& options) {
  const RunOptions& run = options.run;
  session.show_questions(run.questions.size() > 1);
  std::vector<ChatMessage> messages;
  const auto turns = static_cast<int64_t>(run.questions.size());
  for (int64_t turn = 0; turn < turns && !session.interrupted(); ++turn) {
    const std::string& text = run.questions[static_cast<size_t>(turn)];
    messages.push_back({"user", text});
    const int64_t max_tokens = run.generation.max_tokens;
    const int64_t reserve = reserve_for(turns - 1 - turn, max_tokens, prompts.limit());
    const std::vector<SampleResult> results =
        session.ask({{.prompt = prompts.chat(messages, max_tokens, reserve), .text = text}});
    // Of several samples the conversation goes on with the first.
    messages.push_back({"assistant", results.front().text});
  }
}

}  // namespace kvasir::cli
