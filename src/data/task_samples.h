#pragma once
// Samples of tasks: a generator's conversations, brought to the length that was asked for.

#include <functional>
#include <optional>

#include "data/chat_encoder.h"
#include "data/recipe.h"
#include "data/sample.h"

namespace kvasir::data {

struct ConversationRequest {
  std::string_view task;
  uint64_t seed = 0;
  int64_t document_tokens = 0;  // about as many, in the document
  int64_t turns = 0;            // as many, or fewer where the document does not hold more
  bool is_held_out = false;     // of titles and keys that training never sees
};

// Thread-safe, and a pure function of the request. Nothing where the task does not fit a document
// of that size. Throws Error.
using ConversationGenerator =
    std::function<std::optional<Conversation>(const ConversationRequest&)>;

class TaskSamples final : public SampleSource {
 public:
  // `encoder` must outlive it.
  TaskSamples(ConversationGenerator generator, const ChatEncoder& encoder, const DataRecipe& data);

  // The document takes what data.question_fraction leaves; turns are added while they fit, at least
  // one. A document that turns out too long is asked for again, shorter.
  Sample make(const SampleRequest& request) const override;

 private:
  ConversationGenerator generator_;
  const ChatEncoder* encoder_;
  double question_fraction_;
  int64_t most_turns_;
  float context_weight_;
};

}  // namespace kvasir::data
