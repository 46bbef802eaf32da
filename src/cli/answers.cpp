#include "cli/answers.h"

#include <algorithm>

namespace kvasir::cli {
namespace {

// How long an interrupt may go unnoticed while nothing comes.
constexpr int64_t kWaitMs = 20;
// How many events of one answer may come before the others and an interrupt have their turn.
constexpr int kMostAtOnce = 16;

}  // namespace

void SampleResult::take(const Event& event) {
  if (event.kind == Event::Kind::kProgress) return;
  text += event.text;
  if (event.kind == Event::Kind::kToken) {
    tokens.push_back(event.token);
    if (event.logprob) logprobs.push_back({*event.logprob, event.top_logprobs});
    return;
  }
  finished = true;
  finish_reason = event.finish_reason;
  usage = event.usage;
  timing = event.timing;
  attention = event.attention;
  error = event.error;
}

void AnswerSet::add(size_t key, Answer answer) {
  running_.push_back({key, std::move(answer)});
  if (cancelled_) running_.back().answer.cancel();
}

void AnswerSet::poll(const OnEvent& on_event, const Interrupts& interrupts) {
  if (interrupts.pending() && !cancelled_) {
    cancelled_ = true;
    for (Running& running : running_) running.answer.cancel();
  }
  bool moved = false;
  std::vector<bool> ended(running_.size());
  for (size_t i = 0; i < running_.size(); ++i) {
    // A single answer is waited for; among several nobody waits for another.
    const int64_t wait = running_.size() == 1 ? kWaitMs : 0;
    std::optional<Event> event;
    for (int taken = 0; taken < kMostAtOnce; ++taken) {
      ended[i] = !running_[i].answer.next(event, wait);
      if (ended[i] || !event) break;
      moved = true;
      on_event(running_[i].key, *event);
      if (running_.size() == 1) break;
    }
    moved = moved || ended[i];
  }
  size_t index = 0;
  std::erase_if(running_, [&](const Running&) { return ended[index++]; });
  if (moved || running_.size() < 2) return;
  std::optional<Event> event;
  if (running_.front().answer.next(event, kWaitMs) && event) on_event(running_.front().key, *event);
}

void AnswerSet::drain(const OnEvent& on_event, const Interrupts& interrupts) {
  while (!running_.empty()) poll(on_event, interrupts);
}

OrderedText::OrderedText(size_t channels, std::function<void(std::string_view)> write,
                         std::function<void(size_t)> begin)
    : channels_(channels), write_(std::move(write)), begin_(std::move(begin)) {}

void OrderedText::append(size_t channel, std::string_view text) {
  channels_[channel].waiting += text;
  if (channel == current_ && !text.empty()) flush();
}

void OrderedText::finish(size_t channel) {
  channels_[channel].finished = true;
  flush();
}

void OrderedText::flush() {
  while (current_ < channels_.size()) {
    Channel& channel = channels_[current_];
    const bool has_text = !channel.waiting.empty();
    if (!channel.begun && (has_text || channel.finished)) {
      channel.begun = true;
      if (begin_) begin_(current_);
    }
    if (has_text) {
      write_(channel.waiting);
      channel.ends_line = channel.waiting.back() == '\n';
      channel.waiting.clear();
    }
    if (!channel.finished) return;
    if (!channel.ends_line) write_("\n");
    ++current_;
  }
}

}  // namespace kvasir::cli
