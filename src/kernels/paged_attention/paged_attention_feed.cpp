#include "kernels/paged_attention/paged_attention_feed.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace kvasir::kernels {
namespace {

bool is_gathered(const KeyBlock& block) { return block.positions && block.position_keys_log2 == 0; }

}  // namespace

int64_t QueryCut::blocks_a_tile() const {
  return block_queries < tile_queries ? (tile_queries + block_queries - 1) / block_queries : 1;
}

int64_t QueryCut::blocks() const {
  const int64_t step = std::max(block_queries, tile_queries);
  const int64_t whole = (queries - 1) / step, rest = queries - whole * step;
  return whole * blocks_a_tile() + (rest + block_queries - 1) / block_queries;
}

int64_t QueryCut::first_of(int64_t block) const {
  const int64_t parts = blocks_a_tile();
  return first_query + block / parts * std::max(block_queries, tile_queries) +
         block % parts * block_queries;
}

int64_t QueryCut::queries_of(int64_t block) const {
  const int64_t done = first_of(block) - first_query;
  const int64_t rest = std::min(block_queries, queries - done);
  return block_queries < tile_queries ? std::min(rest, tile_queries - done % tile_queries) : rest;
}

KeyFeed::KeyFeed(const KeySource& source, const QueryCut& cut)
    : source_(source),
      cut_(cut),
      query_blocks_(cut.blocks()),
      row_bytes_(source.pages->head_dim * static_cast<int64_t>(dtype_bytes(source.pages->dtype))) {
  walks_[0].emplace(walk_of(0));
  advance();
}

KeyWalk KeyFeed::walk_of(int64_t query_block) const {
  const int64_t query = cut_.first_of(query_block), queries = cut_.queries_of(query_block);
  const int64_t first = source_.query_offset + query;
  const int64_t tile = (query - cut_.first_query) / cut_.tile_queries;  // of the cut
  return KeyWalk(
      *source_.plan, source_.program,
      {.first = first,
       .last = first + queries - 1,
       .tile = cut_.first_tile + tile,
       .tile_position = source_.query_offset + cut_.first_query + tile * cut_.tile_queries,
       .tile_rows = cut_.tile_queries,
       .tiles = static_cast<int>((queries + cut_.tile_queries - 1) / cut_.tile_queries)},
      source_.window, source_.block_keys);
}

// Finds the next block, with its pages where keys are not gathered.
void KeyFeed::advance() {
  const int given_out = walk_;
  while (at_ < query_blocks_ && !walks_[walk_]->next(ahead_)) {
    walk_ = 1 - given_out;
    if (++at_ < query_blocks_) walks_[walk_].emplace(walk_of(at_));
  }
  if (at_ == query_blocks_ || is_gathered(ahead_)) return;
  for (int64_t i = ahead_.begin / kPageTokens; i * kPageTokens < ahead_.end; ++i)
    ahead_.pages[i] =
        keys_at(ahead_.positions ? ahead_.positions[i] : ahead_.first + i * kPageTokens);
}

bool KeyFeed::next(int64_t query_block, KeyBlock& block) {
  if (at_ != query_block) return false;
  block = ahead_;
  advance();
  look_ahead(query_block, block);
  if (is_gathered(block)) gather(block);
  return true;
}

void KeyFeed::look_ahead(int64_t query_block, KeyBlock& block) {
  Soon* soon = soon_;
  const auto add_rows = [&](Soon rows, int64_t of_block) {
    rows.first += cut_.first_of(of_block) * rows.stride;
    rows.count = cut_.queries_of(of_block);
    *soon++ = rows;
  };
  if (at_ != query_block) add_rows(source_.out, query_block);
  if (at_ != query_block && at_ < query_blocks_) add_rows(source_.q, at_);
  if (at_ < query_blocks_ && is_gathered(ahead_)) {
    for (int i = 0; i < ahead_.end; ++i)
      *soon++ = {
          .first = keys_at(ahead_.positions[i]) + ahead_.positions[i] % kPageTokens * row_bytes_,
          .bytes = row_bytes_,
          .stride = kPageTokens * row_bytes_,
          .count = 2};
  } else if (at_ < query_blocks_) {
    // Of the first and of the last page the part that is in granules of the block.
    for (int page = ahead_.begin / kPageTokens; page * kPageTokens < ahead_.end; ++page) {
      const int64_t begin = std::max<int64_t>(0, ahead_.begin - page * kPageTokens);
      const int64_t end = std::min<int64_t>(kPageTokens, ahead_.end - page * kPageTokens);
      const int64_t first = begin / kKeyGranule * kKeyGranule;
      *soon++ = {.first = ahead_.pages[page] + first * row_bytes_,
                 .bytes = (end - first) * row_bytes_,
                 .stride = kPageTokens * row_bytes_,
                 .count = 2};
    }
  }
  block.soon = soon_;
  block.soon_count = static_cast<int>(soon - soon_);
}

// K of the KV head in the page of `position`.
const std::byte* KeyFeed::keys_at(int64_t position) const {
  return source_.pages->page(source_.page_table[position / kPageTokens]) +
         source_.kv_head * 2 * kPageTokens * row_bytes_;
}

// Brings the single keys of a block together, as they would lie in pages.
void KeyFeed::gather(KeyBlock& block) const {
  const int64_t values = kPageTokens * row_bytes_;  // from a key to its value
  std::byte* to = source_.gathered;
  for (int i = 0; i < block.end; ++i) {
    if (i % kPageTokens == 0) {
      if (i > 0) to += values;
      block.pages[i / kPageTokens] = to;
    }
    const int64_t position = block.positions[i];
    const std::byte* from = keys_at(position) + position % kPageTokens * row_bytes_;
    std::memcpy(to, from, static_cast<size_t>(row_bytes_));
    std::memcpy(to + values, from + values, static_cast<size_t>(row_bytes_));
    to += row_bytes_;
  }
}

}  // namespace kvasir::kernels
