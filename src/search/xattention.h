#pragma once
// `kvasir search xattention`: a threshold for each head of a model, found on a text.

#include "prefill/xattention/thresholds.h"
#include "search/search.h"

namespace kvasir::search {

struct XAttentionSearch {
  prefill::xattention::ThresholdSearch heads;
  std::filesystem::path output;  // the file that the method reads
  Watch watch;
};

// What a layer came to: means over its heads.
struct ThresholdSummary {
  int layer = 0;
  double threshold = 0, density = 0, recall = 0, error = 0;
};

// Reads `text` (at least one token) layer by layer on the CPU, whatever engine.device says. Throws
// as Engine::load does; kCancelled.
std::vector<ThresholdSummary> search_xattention(const EngineOptions& engine,
                                                std::span<const TokenId> text,
                                                const XAttentionSearch& options);

}  // namespace kvasir::search
