#pragma once
// Training a byte-level BPE (Sennrich et al. 2016) and writing it as a tokenizer.json.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/word_counts.h"

namespace kvasir::data {

// The tokens of the chat format, ids 0 to 4; see chat_template() in the tokenizer's configuration.
inline constexpr std::string_view kBeginToken = "<|begin|>", kEndToken = "<|end|>",
                                  kUserToken = "<|user|>", kAssistantToken = "<|assistant|>",
                                  kPadToken = "<|pad|>";

struct Bpe {
  std::vector<std::string> tokens;  // by id, spelled in the byte alphabet
  std::vector<std::pair<int32_t, int32_t>> merges;
};

// The merges that the package `tokenizers` makes of the same words: special tokens have the first
// ids, then the 256 bytes in the order of their letters; the most frequent pair is merged next, of
// several the lowest pair of ids. Fewer than `vocab_size` tokens where no pairs are left. `done` is
// told the tokens so far. Precondition: vocab_size is at least the number of first ids.
Bpe train_bpe(const WordCounts& words, std::span<const std::string_view> special_tokens,
              int64_t vocab_size, const std::function<void(int64_t, int64_t)>& done = nullptr);

// The five tokens above, in the order of their ids.
std::span<const std::string_view> chat_tokens();

// tokenizer.json: texts get <|begin|> in front.
std::string tokenizer_json(const Bpe& bpe, bool single_digits);
// tokenizer_config.json, with the chat template: <|begin|>, the system message and a newline, then
// for each turn <|user|> question <|assistant|> answer <|end|>.
std::string tokenizer_config_json(int64_t longest);

}  // namespace kvasir::data
