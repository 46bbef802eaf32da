#include "eval/conversation.h"

#include <fmt/format.h>

#include <algorithm>

#include "eval/tiny_prompts.h"
#include "tasks/score.h"
#include "tasks/tiny.h"

namespace kvasir::eval {

Conversation::Conversation(std::shared_ptr<const Session> session, const MatrixRow& row, Mode mode,
                           std::vector<Outcome> recorded, const ConversationSetting& setting,
                           uint64_t group)
    : session_(std::move(session)),
      row_(row),
      mode_(mode),
      setting_(setting),
      group_(group),
      recorded_(session_->sample.turns.size()),
      most_tokens_(session_->most_tokens(mode, setting.answers)),
      reads_context_(mode == Mode::kMultiRequest && row.loading == Loading::kResident) {
  for (Outcome& outcome : recorded)
    if (outcome.turn < std::ssize(recorded_))
      recorded_[static_cast<size_t>(outcome.turn)] = std::move(outcome);
}

bool Conversation::asks_later(size_t turn) const {
  return std::any_of(recorded_.begin() + static_cast<std::ptrdiff_t>(turn), recorded_.end(),
                     [](const auto& outcome) { return !outcome.has_value(); });
}

std::optional<Request> Conversation::next_request() {
  if (mode_ == Mode::kMultiRequest)
    while (turn_ < recorded_.size() && is_recorded(turn_)) ++turn_;
  if (turn_ >= recorded_.size() || !asks_later(turn_)) return std::nullopt;
  Request request{
      .prompt = {}, .max_tokens = 1, .stages = row_.at(session_->full_length), .kv_group = group_};
  if (setting_.speaks_ids) request.stop_tokens = {tasks::tiny::kEot};
  if (row_.loading == Loading::kRecompute) request.kv_group += turn_;
  has_context_request_ = std::exchange(reads_context_, false);
  const SessionPrompts& prompts = *session_->prompts.at(mode_);
  if (has_context_request_) {
    request.prompt = prompts.context();
    request.max_tokens = 0;  // its KV alone: what is dropped from it is chosen without a question
    return request;
  }
  request.prompt = mode_ == Mode::kMultiRequest ? prompts.alone(turn_) : prompts.after(answers_);
  // Of an answer that is known the prompt's KV is enough, unless its own is what the next question
  // finds.
  if (!is_recorded(turn_) || setting_.answers == Answers::kGenerated)
    request.max_tokens = session_->new_tokens[turn_];
  return request;
}

std::optional<Outcome> Conversation::take(Reply reply) {
  if (std::exchange(has_context_request_, false)) {
    context_ = std::move(reply);
    return std::nullopt;
  }
  const size_t turn = turn_++;
  std::optional<Outcome> outcome;
  if (!is_recorded(turn)) outcome = outcome_of(std::move(reply));
  if (mode_ == Mode::kMultiTurn) {
    const Outcome& known = outcome ? *outcome : *recorded_[turn];
    // Without an answer of its own the conversation goes on with the reference.
    const bool is_golden = setting_.answers == Answers::kGolden || !known.error.empty();
    answers_.push_back(is_golden ? session_->sample.turns[turn].golden() : known.answer);
  }
  return outcome;
}

// What reading the context cost becomes the first question's, as in a conversation.
void Conversation::add_context_to(Outcome& outcome) {
  const std::optional<Reply> context = std::exchange(context_, std::nullopt);
  if (!context || context->error || outcome.turn > 0) return;
  const auto pairs = [](int64_t tokens) {
    return 0.5 * static_cast<double>(tokens) * static_cast<double>(tokens + 1);
  };
  const double whole = pairs(outcome.prompt_tokens),
               question = whole - pairs(outcome.cached_tokens),
               of_context =
                   pairs(context->usage.prompt_tokens) - pairs(context->usage.cached_tokens);
  outcome.computed_fraction =
      (outcome.computed_fraction * question + context->attention.computed_fraction * of_context) /
      (question + of_context);
  outcome.cached_tokens = context->usage.cached_tokens;
  outcome.ttft_seconds += context->timing.prefill_seconds;
}

Outcome Conversation::outcome_of(Reply reply) {
  const auto turn = static_cast<size_t>(turn_ - 1);
  const MethodRow name = row_.name();
  Outcome outcome{.suite = setting_.suite,
                  .task = std::string(session_->task->name),
                  .length = session_->length,
                  .session = session_->index,
                  .turn = static_cast<int64_t>(turn),
                  .depth = session_->depth,
                  .mode = mode_,
                  .prefill = name.prefill,
                  .compress = name.compress,
                  .retrieve = name.retrieve,
                  .loading = name.loading,
                  .reference = session_->sample.turns[turn].golden()};
  if (reply.error) {
    outcome.error = reply.error->what();
    return outcome;
  }
  outcome.answer = setting_.speaks_ids ? tiny_text(reply.tokens) : std::move(reply.text);
  outcome.prompt_tokens = reply.usage.prompt_tokens;
  outcome.cached_tokens = reply.usage.cached_tokens;
  outcome.completion_tokens = reply.usage.completion_tokens;
  outcome.ttft_seconds = reply.timing.prefill_seconds;
  outcome.decode_seconds = reply.timing.decode_seconds;
  outcome.computed_fraction = reply.attention.computed_fraction;
  add_context_to(outcome);
  outcome.kv_bytes = reply.attention.kv_bytes;
  score(outcome);
  return outcome;
}

void Conversation::score(Outcome& outcome) const {
  const tasks::Turn& turn = session_->sample.turns[static_cast<size_t>(outcome.turn)];
  const std::string_view scorer = tasks::scorer_of(*session_->task, session_->sample, turn);
  const auto by = [&](tasks::Scoring scoring) {
    return tasks::score(scorer, {.prediction = outcome.answer,
                                 .turn = turn,
                                 .scoring = scoring,
                                 .functions = session_->sample.functions});
  };
  const Result<double> strict = by(tasks::Scoring::kStrict),
                       published = by(tasks::Scoring::kReference);
  if (!strict || !published) {
    outcome.error = (strict ? published : strict).error().what();
    return;
  }
  outcome.score = strict.value();
  outcome.published = published.value();
}

}  // namespace kvasir::eval
