#include "data/task_samples.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tasks/text_tasks.h"

namespace kvasir::data {
namespace {

// What a question with its answer takes, about.
constexpr int64_t kTokensOfTurn = 24;
// Parts of a sample are counted alone and joined where special tokens part them, but for the
// newline behind the document: a second try is rare, more would hide a generator that does not keep
// to its target.
constexpr int kTries = 4;

std::vector<int32_t> hops_of(const tasks::Sample& made) {
  std::vector<int32_t> hops;
  for (size_t turn = 0; turn < made.turns.size(); ++turn) {
    const auto fact = made.facts.find("hops." + std::to_string(turn));
    if (fact == made.facts.end()) return {};
    hops.push_back(static_cast<int32_t>(fact->second));
  }
  return hops;
}

tasks::KeySpace space_of(const SampleRequest& request) {
  return request.is_held_out ? tasks::KeySpace::kEvaluation : tasks::KeySpace::kTraining;
}

}  // namespace

const std::vector<std::string>& task_names() {
  static const std::vector<std::string> names(std::begin(tasks::kTextTasks),
                                              std::end(tasks::kTextTasks));
  return names;
}

TaskSamples::TaskSamples(MakeGenerator make, const ChatEncoder& encoder, const DataRecipe& data,
                         const tasks::Haystack* training, const tasks::Haystack* held_out)
    : make_(std::move(make)),
      encoder_(&encoder),
      question_fraction_(data.question_fraction),
      most_turns_(data.most_turns),
      context_weight_(static_cast<float>(data.context_weight)),
      answer_weight_(static_cast<float>(data.answer_weight)),
      training_(training),
      held_out_(held_out) {}

Result<tasks::Sample> TaskSamples::conversation(const SampleRequest& request, int64_t target_tokens,
                                                int64_t turns) const {
  const auto generator =
      make_(request.task, {.target_tokens = target_tokens,
                           .count = [this](std::string_view text) { return encoder_->count(text); },
                           .turns = static_cast<int>(turns),
                           .haystack = request.is_held_out ? held_out_ : training_,
                           .key_space = space_of(request),
                           .phrasing = request.is_held_out ? 0 : tasks::kTrainingPhrasings});
  if (!generator) throw generator.error();
  return generator.value()->sample(request.seed, 0);
}

Sample TaskSamples::make(const SampleRequest& request) const {
  const auto for_turns =
      static_cast<int64_t>(question_fraction_ * static_cast<double>(request.most_tokens));
  const int64_t most = std::min<int64_t>(most_turns_, tasks::most_turns(space_of(request)));
  int64_t turns = std::clamp<int64_t>(for_turns / kTokensOfTurn, 1, most);
  int64_t target = request.most_tokens + 1;  // <|begin|>, which a sample comes without
  for (int tries = 0; tries < kTries && target > 0;) {
    const Result<tasks::Sample> made = conversation(request, target, turns);
    if (!made) {
      if (made.error().code() != ErrorCode::kResourceExhausted) throw made.error();
      if (turns == 1) return {};
      turns /= 2;
      continue;
    }
    Sample sample = encoder_->encode(made.value(), context_weight_, answer_weight_);
    const int64_t too_many = static_cast<int64_t>(sample.tokens.size()) - request.most_tokens;
    if (too_many <= 0) {
      sample.hops = hops_of(made.value());
      return sample;
    }
    target -= too_many;
    ++tries;
  }
  return {};
}

}  // namespace kvasir::data
