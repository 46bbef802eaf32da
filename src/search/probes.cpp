#include "search/probes.h"

#include "tasks/registry.h"

namespace kvasir::search {
namespace {

constexpr int kTurns = 4;
constexpr uint64_t kSeed = 20260101;

}  // namespace

Probes::Probes(const std::filesystem::path& model, const std::string& document)
    : tokenizer_(text::Tokenizer::load(model / "tokenizer.json").value()),
      haystack_(tasks::Haystack::of({document}).value()) {
  auto found = text::ChatTemplate::load(model);
  if (found)
    template_ = std::move(found).value();
  else if (found.error().code() != ErrorCode::kNotFound)
    throw found.error();
}

tasks::Sample Probes::sample(const std::string& task, int64_t length, int index) const {
  const auto count = [this](std::string_view text) { return std::ssize(tokens(text)); };
  return tasks::make_generator(
             "tasks", task,
             {.target_tokens = length, .count = count, .turns = kTurns, .haystack = &haystack_})
      .value()
      ->sample(kSeed + static_cast<uint64_t>(length), static_cast<uint64_t>(index + 1))
      .value();
}

std::vector<TokenId> Probes::prompt(const tasks::Sample& sample, const tasks::Turn& turn) const {
  if (!template_)
    return tokenizer_.encode(sample.context + "\n\n" + turn.question + "\n",
                             {.add_special_tokens = true, .parse_special = true});
  const std::vector<text::ChatMessage> messages{{"system", sample.context},
                                                {"user", turn.question}};
  return tokenizer_.encode(template_->render(messages, true).value(),
                           {.add_special_tokens = false, .parse_special = true});
}

std::vector<TokenId> Probes::answer(const tasks::Turn& turn) const { return tokens(turn.golden()); }

std::vector<TokenId> Probes::tokens(std::string_view text) const {
  return tokenizer_.encode(text, {.add_special_tokens = false, .parse_special = false});
}

}  // namespace kvasir::search
