#pragma once
// KV of which entries have been evicted: layer by layer as many slots as entries are left, in pages
// that no position finds. Pages of a block may serve any layer, so that layers of unequal length
// waste nothing.

#include <vector>

#include "kv/block_pool.h"

namespace kvasir::kv {

// What a compacted sequence stores, living or kept.
struct CompactedPages {
  std::vector<int64_t> stored;                     // [layers]: entries of each KV head
  std::vector<std::vector<uint32_t>> page_tables;  // [layers], covering `stored` at least
  std::vector<BlockIndex> blocks;                  // those that hold the pages, once each
};

}  // namespace kvasir::kv
