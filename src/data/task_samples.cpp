#include "data/task_samples.h"

#include <utility>

namespace kvasir::data {
namespace {

// A generator's count of tokens is off by some percent: a few tries are enough, more would hide one
// that does not react.
constexpr int kTries = 6;

int64_t size_of(const Sample& sample) { return static_cast<int64_t>(sample.tokens.size()); }

void append(const Sample& from, Sample& to) {
  to.tokens.insert(to.tokens.end(), from.tokens.begin(), from.tokens.end());
  to.weights.insert(to.weights.end(), from.weights.begin(), from.weights.end());
}

}  // namespace

TaskSamples::TaskSamples(ConversationGenerator generator, const ChatEncoder& encoder,
                         const DataRecipe& data)
    : generator_(std::move(generator)),
      encoder_(&encoder),
      question_fraction_(data.question_fraction),
      most_turns_(data.most_turns),
      context_weight_(static_cast<float>(data.context_weight)) {}

Sample TaskSamples::make(const SampleRequest& request) const {
  const auto most = static_cast<double>(request.most_tokens);
  auto document_tokens = static_cast<int64_t>(most * (1 - question_fraction_));
  for (int tries = 0; tries < kTries && document_tokens > 0; ++tries) {
    const auto conversation = generator_({.task = request.task,
                                          .seed = request.seed,
                                          .document_tokens = document_tokens,
                                          .turns = most_turns_,
                                          .is_held_out = request.is_held_out});
    if (!conversation || conversation->turns.empty()) return {};
    Sample sample = encoder_->encode(conversation->document, {}, context_weight_);
    const int64_t document_size = size_of(sample);
    for (const Turn& turn : conversation->turns) {
      const Sample more = encoder_->encode_turn(turn);
      if (size_of(sample) + size_of(more) > request.most_tokens) break;
      append(more, sample);
    }
    if (size_of(sample) > document_size) return sample;
    // Shorter by what it was too long, and by room for a turn.
    const double too_long = static_cast<double>(document_size) / (most * (1 - question_fraction_));
    document_tokens = static_cast<int64_t>(static_cast<double>(document_tokens) /
                                           (too_long > 1.1 ? too_long : 1.1));
  }
  return {};
}

}  // namespace kvasir::data
