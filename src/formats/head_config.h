#pragma once
// MInference's head configuration: which sparse pattern each query head of each layer has in the
// prefill, and how much it may keep. The format of the published files, read unchanged:
//
//   [{"0": ["vertical_and_slash", 1000, 6096, 0.98], "1": ...}, ...]     one object per layer
//
// The same list stands in sparse_attention_config.json beside a checkpoint, or in config.json under
// dual_chunk_attention_config.sparse_attention_config (the Qwen 1M models).

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace kvasir::formats {

enum class HeadPatternKind : uint8_t {
  kVerticalSlash,  // "vertical_and_slash": budgets of columns and of diagonals
  kAShape,         // "stream_llm": first positions and last positions
  kBlockSparse,    // "block_sparse": the numbers mean nothing
};

struct HeadPattern {
  HeadPatternKind kind = HeadPatternKind::kVerticalSlash;
  int32_t first = 1000;
  int32_t second = 6096;
  std::variant<int64_t, double> score = int64_t{0};  // what the search found; nothing reads it

  bool operator==(const HeadPattern&) const = default;
};

// The extents of the model that a configuration is for.
struct HeadCounts {
  int32_t layers = 0;
  int32_t q_heads = 0;
};

struct HeadConfig {
  std::vector<std::map<int32_t, HeadPattern>> layers;  // may be fewer than the model has

  // The default where the file says nothing.
  HeadPattern at(int32_t layer, int32_t q_head) const;
  // How many heads of the model get the default: worth a warning.
  int64_t missing(const HeadCounts& counts) const;

  bool operator==(const HeadConfig&) const = default;
};

// Negative numbers count as 0, as in the published code. Errors: kMalformed, with layer and head.
Result<HeadConfig> parse_head_config(std::string_view text, std::string_view origin,
                                     const HeadCounts& counts);

// One line as Python's json.dump writes it; parsing and writing it again gives the same bytes.
std::string write_head_config(const HeadConfig& config);

// dual_chunk_attention_config of config.json.
struct DualChunkAttention {
  int64_t chunk_size = 8192;
  int64_t local_size = 1024;
  int64_t original_max_positions = 0;  // 0: queries are not scaled
  bool has_sparse_attention = false;
  int64_t sparse_threshold = 32768;  // shorter prompts are dense
  int64_t sparse_last_queries = 64;
  std::optional<HeadConfig> heads;
};

// Of a config.json; nothing where it has no such key.
Result<std::optional<DualChunkAttention>> parse_dual_chunk_attention(std::string_view config_json,
                                                                     std::string_view origin,
                                                                     const HeadCounts& counts);

// Of a model folder: sparse_attention_config.json, else what config.json embeds, else nothing.
Result<std::optional<HeadConfig>> find_head_config(const std::filesystem::path& folder,
                                                   const HeadCounts& counts);

}  // namespace kvasir::formats
