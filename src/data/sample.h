#pragma once
// What a task gives for training: a conversation as tokens, with the weight of each in the loss.

#include <cstdint>
#include <string_view>
#include <vector>

namespace kvasir::data {

// The tokens behind <|begin|>.
struct Sample {
  std::vector<int32_t> tokens;
  std::vector<float> weights;  // [tokens]: of predicting each
  // [answers]: links of the chain that each asks for; empty where a task has no chains.
  std::vector<int32_t> hops;
};

struct SampleRequest {
  std::string_view task;
  uint64_t seed = 0;
  int64_t most_tokens = 0;   // the sample has about as many, never more
  bool is_held_out = false;  // of titles and keys that training never sees
};

// Thread-safe, and a pure function of the request.
class SampleSource {
 public:
  virtual ~SampleSource() = default;
  // Empty where the task needs more tokens. Throws Error.
  virtual Sample make(const SampleRequest& request) const = 0;
};

}  // namespace kvasir::data
