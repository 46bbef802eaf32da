#include "eval/tiny_prompts.h"

#include "tasks/tiny.h"

namespace kvasir::eval {
namespace {

std::vector<TokenId> ids_of(const std::string& words) {
  const tasks::TinyIds ids = tasks::tiny_ids(words).value();
  return {ids.begin(), ids.end()};
}

void append(std::vector<TokenId>& tokens, const std::vector<TokenId>& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
}

class TinyPrompts final : public SessionPrompts {
 public:
  explicit TinyPrompts(const tasks::Sample& sample) : context_(ids_of(sample.context)) {
    for (const tasks::Turn& turn : sample.turns) {
      questions_.push_back(ids_of(turn.question));
      append(alone_.emplace_back(context_), questions_.back());
    }
  }
  const std::vector<TokenId>& alone(size_t turn) const override { return alone_.at(turn); }
  const std::vector<TokenId>& context() const override { return context_; }
  std::vector<TokenId> after(std::span<const std::string> answers) const override {
    std::vector<TokenId> tokens = alone_.front();
    for (size_t turn = 0; turn < answers.size(); ++turn) {
      append(tokens, ids_of(answers[turn]));
      tokens.push_back(tasks::tiny::kEot);
      append(tokens, questions_.at(turn + 1));
    }
    return tokens;
  }

 private:
  std::vector<TokenId> context_;
  std::vector<std::vector<TokenId>> questions_, alone_;
};

}  // namespace

std::unique_ptr<SessionPrompts> make_tiny_prompts(const tasks::Sample& sample) {
  return std::make_unique<TinyPrompts>(sample);
}

std::string tiny_text(std::span<const TokenId> answer) {
  tasks::TinyIds ids;
  for (const TokenId id : answer) {
    if (id < 0 || id >= tasks::tiny::kVocabulary || id == tasks::tiny::kEot) break;
    ids.push_back(static_cast<uint16_t>(id));
  }
  return tasks::tiny_words(ids);
}

}  // namespace kvasir::eval
