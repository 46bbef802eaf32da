#include "eval/prompts.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "eval/tiny_prompts.h"
#include "formats/json_reason.h"
#include "tasks/registry.h"
#include "tasks/scbench.h"
#include "tasks/tiny.h"

namespace kvasir::eval {
namespace {

// What a session consists of before any chat template: messages of the user, and before them the
// document as the system's message, or in the user's first one.
struct Parts {
  std::string before;
  bool is_system = false;
  std::string first;                // of a conversation; whole, where there is no system's message
  std::vector<std::string> alone;   // where a question is alone; follows `before`
  std::vector<std::string> follow;  // later ones of a conversation

  void join_system() {
    is_system = false;
    first = before + "\n\n" + first;
    for (std::string& question : alone) question.insert(0, "\n\n");
  }
};

std::string filled(std::string_view pattern, const tasks::Sample& sample, const tasks::Turn& turn) {
  const auto value = [&](std::string_view name) -> std::optional<std::string> {
    if (name == "context") return sample.context;
    if (name == "input" || name == "question") return turn.question;
    if (name == "target") return tasks::scbench_target(turn.question);
    if (name.size() == 1 && name[0] >= 'A' && name[0] <= 'D') {
      const auto option = static_cast<size_t>(name[0] - 'A');
      return option < turn.options.size() ? turn.options[option] : std::string();
    }
    return std::nullopt;
  };
  std::string text;
  while (!pattern.empty()) {
    const size_t open = pattern.find('{'), close = pattern.find('}', open);
    if (open == std::string_view::npos || close == std::string_view::npos) break;
    const auto found = value(pattern.substr(open + 1, close - open - 1));
    text += pattern.substr(0, open);
    text += found ? *found : "{";
    pattern.remove_prefix(found ? close + 1 : open + 1);
  }
  return text.append(pattern);
}

Parts from_template(const tasks::Sample& sample, const PromptTemplate& own) {
  Parts parts{.before = filled(own.context_only, sample, sample.turns.front()),
              .first = filled(own.first, sample, sample.turns.front()),
              .alone = {},
              .follow = {}};
  for (const tasks::Turn& turn : sample.turns) {
    parts.alone.push_back(filled(own.query_only, sample, turn));
    parts.follow.push_back(filled(own.follow, sample, turn));
  }
  return parts;
}

Parts parts_of(const tasks::Sample& sample, std::string_view suite) {
  if (suite == "scbench") {
    tasks::ScbenchPrompt prompt = tasks::scbench_prompt(sample);
    return {.before = prompt.before,
            .first = prompt.before + prompt.turns.front(),
            .alone = std::move(prompt.turns),
            .follow = std::move(prompt.follow)};
  }
  Parts parts{.before = sample.context, .is_system = true, .first = {}, .alone = {}, .follow = {}};
  for (const tasks::Turn& turn : sample.turns) parts.follow.push_back(turn.question);
  parts.alone = parts.follow;
  parts.first = parts.follow.front();
  return parts;
}

std::vector<TokenId> without_middle(std::vector<TokenId> tokens, int64_t budget) {
  const int64_t half = std::max<int64_t>(0, budget) / 2;
  if (std::ssize(tokens) <= budget) return tokens;
  tokens.erase(tokens.begin() + half, tokens.end() - half);
  return tokens;
}

class ChatPrompts final : public SessionPrompts {
 public:
  ChatPrompts(const tasks::Sample& sample, Parts parts, Mode mode, int64_t answer_tokens,
              const PromptMaking& making)
      : sample_(sample), parts_(std::move(parts)), engine_(*making.engine) {
    find_template();
    if (mode == Mode::kMultiTurn)
      make_opening(answer_tokens, making.limit);
    else
      make_alone(answer_tokens, making.limit);
  }

  const std::vector<TokenId>& alone(size_t turn) const override { return alone_.at(turn); }
  const std::vector<TokenId>& context() const override { return context_; }

  std::vector<TokenId> after(std::span<const std::string> answers) const override {
    if (answers.empty()) return opening_;
    const std::string text = conversation(answers);
    std::vector<TokenId> tokens = opening_;
    std::vector<TokenId> later;
    if (text.starts_with(opening_text_)) {
      later = engine_.tokenize(std::string_view(text).substr(opening_text_.size()), false);
    } else {  // a template that looks at the whole conversation
      later = tokenize(text);
      tokens.clear();
    }
    tokens.insert(tokens.end(), later.begin(), later.end());
    return tokens;
  }

 private:
  using Messages = std::vector<ChatMessage>;

  // Which of the three ways there is for this model: a document of its own, a document in the
  // user's words, no template.
  void find_template() {
    constexpr const char* kProbe = "the document";
    const ChatMessage messages[] = {{"system", kProbe}, {"user", "a question"}};
    bool knows_system = false;
    try {
      knows_system = engine_.render_chat(messages, true).find(kProbe) != std::string::npos;
    } catch (const Error& error) {
      has_template_ = error.code() != ErrorCode::kNotFound;
    }
    if (parts_.is_system && !knows_system) parts_.join_system();
  }

  std::string render(Messages messages) const {
    if (has_template_) return engine_.render_chat(messages, true);
    std::string text;
    for (const ChatMessage& message : messages) text += message.content + "\n";
    return text;
  }
  std::vector<TokenId> tokenize(std::string_view text) const {
    return engine_.tokenize(text, !has_template_);
  }

  // The messages up to the user's `question`.
  Messages begun(const std::string& question) const {
    if (parts_.is_system) return {{"system", parts_.before}, {"user", question}};
    return {{"user", question}};
  }

  std::string conversation(std::span<const std::string> answers) const {
    Messages messages = begun(parts_.first);
    for (size_t turn = 0; turn < answers.size(); ++turn) {
      messages.push_back({"assistant", sample_.turns[turn].answer_prefix + answers[turn]});
      messages.push_back({"user", parts_.follow[turn + 1]});
    }
    return render(std::move(messages)) + sample_.turns[answers.size()].answer_prefix;
  }

  void make_opening(int64_t answer_tokens, int64_t limit) {
    opening_text_ = conversation({});
    opening_ = tokenize(opening_text_);
    if (limit == 0) return;
    std::vector<std::string> golden;
    for (size_t turn = 0; turn + 1 < sample_.turns.size(); ++turn)
      golden.push_back(sample_.turns[turn].golden());
    const int64_t later = std::ssize(after(golden)) - std::ssize(opening_);
    const int64_t last = answer_tokens / std::ssize(sample_.turns) + 1;
    opening_ = without_middle(std::move(opening_), limit - std::max(answer_tokens, later + last));
  }

  void make_alone(int64_t answer_tokens, int64_t limit) {
    const std::string before = parts_.is_system ? "" : parts_.before;
    const auto ids = [&](const std::string& question, const std::string& prefix) {
      return tokenize(render(begun(before + question)) + prefix);
    };
    // Two questions without a common letter, so that nothing of a question is in the context, not
    // even where there is one alone.
    const std::string blank = parts_.is_system ? "" : "\n\n";
    context_ = ids(blank + "a", "");
    const auto keep_common = [this](const std::vector<TokenId>& other) {
      context_.erase(std::ranges::mismatch(context_, other).in1, context_.end());
    };
    keep_common(ids(blank + "1", ""));
    int64_t longest = 0;
    for (size_t turn = 0; turn < sample_.turns.size(); ++turn) {
      alone_.push_back(ids(parts_.alone[turn], sample_.turns[turn].answer_prefix));
      keep_common(alone_.back());
    }
    for (const std::vector<TokenId>& prompt : alone_)
      longest = std::max(longest, std::ssize(prompt) - std::ssize(context_));
    if (limit == 0) return;
    constexpr int64_t kReserve = 1000;  // for a question, as in the published code
    const auto whole = static_cast<std::ptrdiff_t>(context_.size());
    context_ = without_middle(std::move(context_),
                              limit - std::max(answer_tokens + kReserve, longest + answer_tokens));
    if (std::ssize(context_) == whole) return;
    for (std::vector<TokenId>& prompt : alone_) {
      prompt.erase(prompt.begin(), prompt.begin() + whole);
      prompt.insert(prompt.begin(), context_.begin(), context_.end());
    }
  }

  const tasks::Sample& sample_;
  Parts parts_;
  const Engine& engine_;
  bool has_template_ = true;
  std::string opening_text_;
  std::vector<TokenId> opening_, context_;
  std::vector<std::vector<TokenId>> alone_;
};

}  // namespace

Result<PromptTemplates> load_templates(const std::filesystem::path& file) {
  const auto malformed = [&](std::string message) {
    return Error(ErrorCode::kMalformed, std::move(message), file.string());
  };
  auto text = read_file(file);
  if (!text) return text.error();
  PromptTemplates all;
  try {
    const auto json = nlohmann::json::parse(text.value());
    for (const auto& [task, object] : json.items()) {
      PromptTemplate& own = all[task];
      for (const auto& [key, target] :
           {std::pair("first", &own.first), std::pair("follow", &own.follow),
            std::pair("context_only", &own.context_only),
            std::pair("query_only", &own.query_only)}) {
        if (!object.is_object() || !object.contains(key) || !object[key].is_string())
          return malformed(task + ": expected the text \"" + key + "\"");
        *target = object[key];
      }
    }
  } catch (const nlohmann::json::exception& error) {
    return malformed("expected JSON; " + formats::json_reason(error.what()));
  }
  return all;
}

bool speaks_tiny_ids(const ModelInfo& info) { return info.vocab_size == tasks::tiny::kVocabulary; }

std::unique_ptr<SessionPrompts> make_prompts(const tasks::Sample& sample, std::string_view suite,
                                             Mode mode, int64_t answer_tokens,
                                             const PromptMaking& making) {
  if (suite == "tiny" && speaks_tiny_ids(making.engine->info())) return make_tiny_prompts(sample);
  Parts parts = parts_of(sample, suite);
  if (making.templates)
    if (const auto own = making.templates->find(sample.task); own != making.templates->end())
      parts = from_template(sample, own->second);
  return std::make_unique<ChatPrompts>(sample, std::move(parts), mode, answer_tokens, making);
}

}  // namespace kvasir::eval
