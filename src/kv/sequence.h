#pragma once
// One sequence: its tokens, its blocks and their page tables.

#include <memory>
#include <vector>

#include "kv/block_pool.h"
#include "kv/compacted.h"
#include "kv/kv_manager.h"

namespace kvasir::kv {

struct Sequence {
  Domain domain = 0;
  std::vector<TokenId> tokens;                     // committed
  int64_t reserved_length = 0;                     // >= length(); what may be written up to
  std::vector<BlockIndex> blocks;                  // blocks_for(reserved_length)
  std::vector<std::vector<uint32_t>> page_tables;  // [layers][blocks.size()]
  std::unique_ptr<Sidecar> sidecar;

  // Once entries have been evicted, `blocks` are those that hold the pages, in no order.
  std::vector<int64_t> stored;  // [layers]: entries of each KV head; empty: one a token
  std::vector<uint32_t> spare;  // pages of its own blocks that no layer has yet
  bool shares_tails = false;    // partly filled pages are another's to append to
  int64_t compacted_at = 0;     // the length at which entries were evicted last
  CompactedPages target;        // where prepare_compaction() has made room
  std::vector<uint32_t> target_spare;
  int64_t target_more = 0;  // tokens that it has room for besides

  bool is_compacted() const { return !stored.empty(); }
  int64_t stored_in(size_t layer) const { return is_compacted() ? stored[layer] : length(); }
  int64_t length() const { return std::ssize(tokens); }
  int64_t tail_length() const { return length() % kBlockTokens; }  // positions in a partly filled
  BlockIndex parent_of(int64_t index) const { return index == 0 ? kNoBlock : blocks[index - 1]; }

  void push_block(BlockIndex block, const BlockPool& pool) {
    blocks.push_back(block);
    for (size_t layer = 0; layer < page_tables.size(); ++layer)
      page_tables[layer].push_back(pool.page(block, static_cast<int>(layer)));
  }
  void replace_block(int64_t index, BlockIndex block, const BlockPool& pool) {
    blocks[index] = block;
    for (size_t layer = 0; layer < page_tables.size(); ++layer)
      page_tables[layer][index] = pool.page(block, static_cast<int>(layer));
  }
  void pop_block() {
    blocks.pop_back();
    for (auto& table : page_tables) table.pop_back();
  }
};

}  // namespace kvasir::kv
