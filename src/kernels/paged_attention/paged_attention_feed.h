#pragma once
// The key blocks of a prefill task, one known ahead of the other so that its keys are on their way
// while the one before it is worked on. For paged_attention.cpp alone.

#include <cstdint>
#include <optional>

#include "kernels/page.h"
#include "kernels/paged_attention/attention_plan.h"
#include "kernels/paged_attention/paged_attention_walk.h"

namespace kvasir::kernels {

// Consecutive queries of a span, cut into query blocks: whole row tiles, or parts of one.
struct QueryCut {
  int64_t first_query = 0;    // in the span
  int64_t queries = 0;        // at least 1
  int64_t block_queries = 0;  // of a query block, at most; a multiple of tile_queries, or less
  int64_t tile_queries = 0;   // of a row tile; first_query is the first of one
  int64_t first_tile = 0;     // its number

  int64_t blocks() const;
  // The first query of a query block and how many it has.
  int64_t first_of(int64_t block) const;
  int64_t queries_of(int64_t block) const;

 private:
  int64_t blocks_a_tile() const;
};

struct KeySource {
  const AttentionPlan* plan = nullptr;
  HeadProgram program;
  const uint32_t* page_table = nullptr;
  const PagePool* pages = nullptr;
  int64_t kv_head = 0;
  int64_t query_offset = 0;  // position of the span's first query
  int64_t window = 0;
  int block_keys = 0;
  std::byte* gathered = nullptr;  // kMostBlockKeys keys and values, as pages of one head
  // Rows of the span's queries: what of them the task reads and writes.
  Soon q, out;
};

// What it points to outlives it, as do the arguments of its constructor.
class KeyFeed {
 public:
  KeyFeed(const KeySource& source, const QueryCut& cut);

  // The next key block of a query block, whole and, where its keys are single ones, gathered; false
  // behind its last. Query blocks are asked for in ascending order, each to its end.
  bool next(int64_t query_block, KeyBlock& block);

 private:
  void advance();
  KeyWalk walk_of(int64_t query_block) const;
  const std::byte* keys_at(int64_t position) const;
  void look_ahead(int64_t query_block, KeyBlock& block);
  void gather(KeyBlock& block) const;

  const KeySource& source_;
  const QueryCut& cut_;
  const int64_t query_blocks_;
  const int64_t row_bytes_;
  // Two, as a block that has been given out keeps the positions of its own.
  std::optional<KeyWalk> walks_[2];
  int walk_ = 0;    // which of them `ahead_` is of
  int64_t at_ = 0;  // the query block that `ahead_` is of; query_blocks_: there is none
  KeyBlock ahead_;
  // The pieces of the block ahead, and queries.
  Soon soon_[kMostBlockKeys + 2];
};

}  // namespace kvasir::kernels
