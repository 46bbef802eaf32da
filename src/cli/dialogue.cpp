#include "cli/dialogue.h"

#include <fmt/format.h>

#include "base/progress.h"
#include "base/utf8.h"

namespace kvasir::cli {
namespace {

// One line, also on a terminal of 80 columns.
std::string summary(const SampleResult& result) {
  const Usage& usage = result.usage;
  std::string text =
      fmt::format("[{}prompt {} ({} cached), answer {}, first token after {:.2f} s",
                  result.finish_reason == FinishReason::kCancelled ? "stopped; " : "",
                  with_thousands(usage.prompt_tokens), with_thousands(usage.cached_tokens),
                  with_thousands(usage.completion_tokens), result.timing.ttft_seconds);
  if (result.timing.decode_tokens_per_second > 0)
    text += fmt::format(", {:.1f}/s", result.timing.decode_tokens_per_second);
  return text + "]\n";
}

}  // namespace

void run_dialogue(RunSession& session, PromptMaker& prompts, const Options& options,
                  Environment& environment) {
  Interrupts& interrupts = *environment.interrupts;
  interrupts.set_mode(Interrupts::Mode::kCount);
  const int64_t max_tokens = options.run.generation.max_tokens;
  constexpr int64_t kTurnsAhead = 8;
  const int64_t reserve = reserve_for(kTurnsAhead, max_tokens, prompts.limit());
  if (!session.read_ahead(prompts.shared_prefix(max_tokens, reserve))) {
    if (interrupts.must_end()) return;
    interrupts.clear();
    session.forget_interrupt();
    environment.note("stopped reading; the first question goes on with it");
  }
  environment.say("Ask; Ctrl-C stops an answer, Ctrl-D or /quit ends.\n");

  LineReader reader(environment.in);
  std::vector<ChatMessage> messages;
  std::string line;
  while (true) {
    environment.say("> ");
    const LineReader::Status status = reader.next(line, interrupts);
    if (status == LineReader::Status::kInterrupted) {
      environment.say("\n");
      if (interrupts.must_end()) return;
      interrupts.clear();
      continue;
    }
    if (status == LineReader::Status::kEnd) {
      environment.say("\n");
      return;
    }
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (line == "/quit" || line == "/exit") return;
    if (const auto place = invalid_utf8_at(line)) {
      environment.note(fmt::format("not UTF-8 at byte {}; please type it again", *place));
      continue;
    }
    messages.push_back({"user", line});
    std::vector<SampleResult> results;
    try {
      results =
          session.ask({{.prompt = prompts.chat(messages, max_tokens, reserve), .text = line}});
    } catch (const Error& error) {
      // A question too long or an answer that failed does not end the dialogue; a terminal that is
      // gone does.
      if (error.code() == ErrorCode::kIo || error.code() == ErrorCode::kInternal) throw;
      environment.complain(error.what());
      messages.pop_back();
      continue;
    }
    if (interrupts.must_end()) return;
    interrupts.clear();
    session.forget_interrupt();
    const SampleResult& answer = results.front();
    environment.say(summary(answer));
    if (answer.tokens.empty() && answer.finish_reason == FinishReason::kCancelled)
      messages.pop_back();
    else
      messages.push_back({"assistant", answer.text});
  }
}

}  // namespace kvasir::cli
