#include "compress/compressor.h"

#include <algorithm>
#include <numeric>

#include "compress/snapkv.h"
#include "compress/streamingllm.h"

namespace kvasir::compress {

// A layer with a sliding window keeps what its queries can still see: consecutive entries, so that
// the window means the same over entries as over positions.
int64_t Compressor::kept(int layer, int64_t tokens, int64_t entries) const {
  return std::min(entries, window(layer) > 0 ? window(layer) : capacity(layer, tokens));
}

void Compressor::select(const EvictionSite& site, int64_t count, std::span<int32_t> kept) const {
  if (window(site.layer) == 0) return select_entries(site, count, kept);
  for (int head = 0; head < site.pages.kv_heads; ++head)
    std::iota(kept.begin() + head * count, kept.begin() + (head + 1) * count,
              static_cast<int32_t>(site.entries - count));
}

Result<std::shared_ptr<const Compressor>> make_compressor(const MethodChoice& choice,
                                                          const ModelShape& model) {
  if (choice.name == "streamingllm") return make_streamingllm(choice, model);
  if (choice.name == "snapkv" || choice.name == "pyramidkv") return make_snapkv(choice, model);
  return std::shared_ptr<const Compressor>();
}

}  // namespace kvasir::compress
