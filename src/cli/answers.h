#pragma once
// Answers as they come in: collected into results, several at a time, printed in order.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/environment.h"
#include "kvasir/engine.h"

namespace kvasir::cli {

// One token with its log-probability and those of the likeliest others.
struct LogprobEntry {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;
};

struct SampleResult {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<LogprobEntry> logprobs;
  bool finished = false;
  FinishReason finish_reason = FinishReason::kStop;
  Usage usage;
  Timing timing;
  AttentionReport attention;
  std::optional<Error> error;

  void take(const Event& event);
};

// Runs answers side by side and hands their events on.
class AnswerSet {
 public:
  using OnEvent = std::function<void(size_t key, const Event& event)>;

  // Keys are the caller's.
  void add(size_t key, Answer answer);
  size_t size() const { return running_.size(); }

  // Hands on what has come, waiting a moment where nothing has. On an interrupt every answer is
  // cancelled; they then end by themselves. Answers that have ended are dropped.
  void poll(const OnEvent& on_event, const Interrupts& interrupts);
  // poll() until all have ended.
  void drain(const OnEvent& on_event, const Interrupts& interrupts);
  bool was_cancelled() const { return cancelled_; }

 private:
  struct Running {
    size_t key;
    Answer answer;
  };
  std::vector<Running> running_;
  bool cancelled_ = false;
};

// Texts that grow side by side, written one after the other: the first unfinished one as it comes,
// those behind it when their turn comes. Each ends with a newline.
class OrderedText {
 public:
  // `begin` is called before a channel's first text.
  OrderedText(size_t channels, std::function<void(std::string_view)> write,
              std::function<void(size_t channel)> begin = {});
  void append(size_t channel, std::string_view text);
  void finish(size_t channel);

 private:
  struct Channel {
    std::string waiting;
    bool begun = false, finished = false, ends_line = false;
  };
  void flush();

  std::vector<Channel> channels_;
  std::function<void(std::string_view)> write_;
  std::function<void(size_t)> begin_;
  size_t current_ = 0;
};

}  // namespace kvasir::cli
