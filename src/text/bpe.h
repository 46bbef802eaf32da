#pragma once
// Byte-pair encoding of words (Sennrich et al. 2016): the model component of a tokenizer file.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/token_model.h"
#include "text/tokenizer_json.h"

namespace kvasir::text {

// What BPE needs besides: symbols of a long word and the merges that wait.
struct BpeScratch final : ModelScratch {
  struct Symbol {
    TokenId id;
    int32_t previous, next;  // indices, -1 at the ends
    uint32_t rank;           // of the merge with `next`
  };
  std::vector<TokenId> ids;
  std::vector<Symbol> symbols;
  std::vector<uint64_t> heap;
};

class BpeModel final : public TokenModel {
 public:
  // Reads {"type": "BPE", "vocab", "merges", ...}. `bytes`: words come as raw bytes and the
  // vocabulary spells them in the byte alphabet; otherwise words are text. Throws
  // Error{kMalformed, kUnsupported}.
  static std::unique_ptr<const BpeModel> parse(const JsonNode& node, bool bytes);

  std::unique_ptr<ModelScratch> make_scratch() const override {
    return std::make_unique<BpeScratch>();
  }
  // Always word.size() for words that may be one token whatever the merges say (ignore_merges).
  size_t safe_cut(std::string_view word, size_t from, size_t at_least) const override;

 private:
  void encode_new(std::string_view word, ModelScratch& scratch,
                  std::vector<TokenId>& out) const override;
  void read_merges(const JsonNode& node);
  void build_starts();

  TokenId whole_word(std::string_view word) const;
  TokenId character_id(char32_t code_point) const;
  void encode_part(std::string_view part, BpeScratch& scratch, std::vector<TokenId>& out) const;
  // What one input unit (a character, or a byte as its character) begins as.
  void append_start(TokenId id, std::string_view unit, bool& pending_unknown,
                    std::vector<TokenId>& ids) const;
  void append_starts(std::string_view part, std::vector<TokenId>& ids) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;

  bool bytes_ = false;
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
  TokenId unknown_ = -1;
  TokenMap raw_vocabulary_;  // by raw bytes, for ignore_merges in byte mode
  MergeMap merges_;
  std::array<TokenId, 256> byte_start_{};  // byte mode: the id of a byte's character, or -1
  std::array<TokenId, 256> fallback_{};    // the id of "<0xHH>", or -1
  std::vector<TokenId> character_start_;   // text mode: below U+10000; else the map
  std::unordered_map<char32_t, TokenId> character_start_high_;
  std::unordered_set<char32_t>
      before_mark_;  // characters that some merge joins to a following mark
};

}  // namespace kvasir::text
