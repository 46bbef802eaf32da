#pragma once
// One session under one row of methods: its requests, one after the other, and what comes of them.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "eval/matrix.h"
#include "eval/sessions.h"

namespace kvasir::eval {

// How a request has ended.
struct Reply {
  std::vector<TokenId> tokens;
  std::string text;
  Usage usage;
  Timing timing;
  AttentionReport attention;
  std::optional<Error> error;
};

// What all conversations of a run have in common.
struct ConversationSetting {
  std::string suite;
  Answers answers = Answers::kGolden;
  bool speaks_ids = false;  // the answer is read from ids
};

class Conversation {
 public:
  // `recorded`: outcomes of its questions from an earlier run; they are not asked again, but in a
  // conversation their prompts are computed again where a later question follows, so that its KV
  // has the same life. `setting` must outlive it. `group` is no other conversation's: the first of
  // as many numbers as next_request() is called.
  Conversation(std::shared_ptr<const Session> session, const MatrixRow& row, Mode mode,
               std::vector<Outcome> recorded, const ConversationSetting& setting, uint64_t group);

  // Empty: all questions have been asked.
  std::optional<Request> next_request();
  // Of the last request. Empty where it was no question, or one that is recorded.
  std::optional<Outcome> take(Reply reply);

  int64_t most_tokens() const { return most_tokens_; }
  static constexpr uint64_t kGroups = 1024;  // numbers that one takes

 private:
  bool is_recorded(size_t turn) const { return recorded_[turn].has_value(); }
  bool asks_later(size_t turn) const;
  Outcome outcome_of(Reply reply);
  void add_context_to(Outcome& outcome);
  void score(Outcome& outcome) const;

  std::shared_ptr<const Session> session_;
  MatrixRow row_;
  Mode mode_;
  const ConversationSetting& setting_;
  uint64_t group_;
  std::vector<std::optional<Outcome>> recorded_;  // [turns]
  int64_t most_tokens_;
  bool reads_context_;                // the next request is the context alone
  bool has_context_request_ = false;  // the last request was
  std::optional<Reply> context_;      // to it, until the first question pays for it
  size_t turn_ = 0;
  std::vector<std::string> answers_;  // that stand in the conversation
};

}  // namespace kvasir::eval
