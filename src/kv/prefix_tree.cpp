#include "kv/prefix_tree.h"

#include <algorithm>
#include <bit>
#include <compare>
#include <string>

#include "base/check.h"

namespace kvasir::kv {
namespace {

uint64_t mix(uint64_t value) {
  value ^= value >> 32;
  value *= 0xd6e8feb86659fd93ull;
  value ^= value >> 32;
  value *= 0xd6e8feb86659fd93ull;
  return value ^ (value >> 32);
}

int64_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

}  // namespace

PrefixTree::PrefixTree(int64_t blocks, uint64_t hash_mask)
    : nodes_(static_cast<size_t>(blocks)),
      tokens_(static_cast<size_t>(blocks * kBlockTokens)),
      buckets_(std::bit_ceil(static_cast<size_t>(blocks)), kNoBlock),
      hash_mask_(hash_mask),
      ordered_(Order{this}) {}

std::span<const TokenId> PrefixTree::tokens(BlockIndex block) const {
  return {tokens_.data() + size_t{block} * kBlockTokens, nodes_[block].count};
}

PrefixTree::Key PrefixTree::key(BlockIndex block) const {
  return {nodes_[block].domain, nodes_[block].parent, tokens(block)};
}

bool PrefixTree::Order::operator()(BlockIndex a, const Key& b) const {
  const Key left = tree->key(a);
  if (left.parent != b.parent) return left.parent < b.parent;
  if (left.domain != b.domain) return left.domain < b.domain;
  return std::lexicographical_compare(left.tokens.begin(), left.tokens.end(), b.tokens.begin(),
                                      b.tokens.end());
}

bool PrefixTree::Order::operator()(BlockIndex a, BlockIndex b) const {
  const Key left = tree->key(a), right = tree->key(b);
  if (left.parent != right.parent) return left.parent < right.parent;
  if (left.domain != right.domain) return left.domain < right.domain;
  const auto order = std::lexicographical_compare_three_way(
      left.tokens.begin(), left.tokens.end(), right.tokens.begin(), right.tokens.end());
  return order != 0 ? order < 0 : a < b;
}

uint64_t PrefixTree::chain_hash(Domain domain, BlockIndex parent,
                                std::span<const TokenId> tokens) const {
  uint64_t hash = parent == kNoBlock ? mix(domain + 1) : nodes_[parent].hash;
  for (size_t i = 0; i + 1 < tokens.size(); i += 2) {
    const uint64_t pair =
        uint64_t{static_cast<uint32_t>(tokens[i])} << 32 | static_cast<uint32_t>(tokens[i + 1]);
    hash = (hash ^ pair) * 0x9fb21c651e98df25ull;
    hash ^= hash >> 29;
  }
  return mix(hash) & hash_mask_;
}

BlockIndex PrefixTree::find_full(Domain domain, BlockIndex parent,
                                 std::span<const TokenId> tokens) const {
  KVASIR_DCHECK(std::ssize(tokens) == kBlockTokens);
  const uint64_t hash = chain_hash(domain, parent, tokens);
  BlockIndex block = buckets_[bucket(hash)];
  for (; block != kNoBlock; block = nodes_[block].next_in_bucket) {
    const Node& node = nodes_[block];
    if (node.hash == hash && node.parent == parent && node.domain == domain &&
        std::equal(tokens.begin(), tokens.end(), this->tokens(block).begin()))
      return block;
  }
  return kNoBlock;
}

PrefixTree::Partial PrefixTree::find_partial(Domain domain, BlockIndex parent,
                                             std::span<const TokenId> tokens) const {
  Partial best;
  const auto consider = [&](BlockIndex block) {
    if (nodes_[block].parent != parent || nodes_[block].domain != domain) return;
    const int64_t length = common_prefix(this->tokens(block), tokens);
    if (length > best.length) best = {block, length};
  };
  const auto next = ordered_.lower_bound(Key{domain, parent, tokens});
  // The one before first: it may be a prefix of the query, to which its next owner can append
  // without a copy.
  if (next != ordered_.begin()) consider(*std::prev(next));
  if (next != ordered_.end()) consider(*next);
  return best;
}

void PrefixTree::insert(BlockIndex block, Domain domain, BlockIndex parent,
                        std::span<const TokenId> tokens) {
  KVASIR_CHECK(!contains(block) && !tokens.empty() && std::ssize(tokens) <= kBlockTokens);
  KVASIR_CHECK(parent == kNoBlock || count(parent) == kBlockTokens);
  Node& node = nodes_[block];
  node = {.domain = domain, .parent = parent, .count = static_cast<uint32_t>(tokens.size())};
  std::copy(tokens.begin(), tokens.end(), storage(block));
  ordered_.insert(block);
  if (parent != kNoBlock) ++nodes_[parent].children;
  if (node.count == kBlockTokens) link(block);
}

void PrefixTree::extend(BlockIndex block, std::span<const TokenId> tokens) {
  Node& node = nodes_[block];
  KVASIR_CHECK(contains(block) && node.count + tokens.size() <= size_t{kBlockTokens});
  if (tokens.empty()) return;
  auto handle = ordered_.extract(block);
  std::copy(tokens.begin(), tokens.end(), storage(block) + node.count);
  node.count += static_cast<uint32_t>(tokens.size());
  ordered_.insert(std::move(handle));
  if (node.count == kBlockTokens) link(block);
}

void PrefixTree::shrink(BlockIndex block, int64_t count) {
  Node& node = nodes_[block];
  KVASIR_CHECK(node.children == 0 && count >= 1 && count <= node.count);
  if (count == node.count) return;
  if (node.count == kBlockTokens) unlink(block);
  auto handle = ordered_.extract(block);
  node.count = static_cast<uint32_t>(count);
  ordered_.insert(std::move(handle));
}

void PrefixTree::remove(BlockIndex block) {
  Node& node = nodes_[block];
  KVASIR_CHECK(contains(block) && node.children == 0);
  if (node.count == kBlockTokens) unlink(block);
  ordered_.erase(block);
  if (node.parent != kNoBlock) --nodes_[node.parent].children;
  node = {};
}

void PrefixTree::link(BlockIndex block) {
  Node& node = nodes_[block];
  node.hash = chain_hash(node.domain, node.parent, tokens(block));
  BlockIndex& head = buckets_[bucket(node.hash)];
  node.next_in_bucket = head;
  head = block;
}

void PrefixTree::unlink(BlockIndex block) {
  BlockIndex* place = &buckets_[bucket(nodes_[block].hash)];
  while (*place != block) place = &nodes_[*place].next_in_bucket;
  *place = nodes_[block].next_in_bucket;
  nodes_[block].next_in_bucket = kNoBlock;
}

void PrefixTree::check_invariants() const {
  std::vector<uint32_t> children(nodes_.size());
  size_t nodes = 0, full_nodes = 0;
  for (BlockIndex block = 0; block < nodes_.size(); ++block) {
    const Node& node = nodes_[block];
    const std::string name = "block " + std::to_string(block);
    if (node.count == 0) continue;
    ++nodes;
    KVASIR_CHECK(node.count <= kBlockTokens, name);
    KVASIR_CHECK(ordered_.contains(block), name + " is not in the order");
    if (node.parent != kNoBlock) {
      KVASIR_CHECK(count(node.parent) == kBlockTokens, name + " hangs under a block not full");
      KVASIR_CHECK(nodes_[node.parent].domain == node.domain, name);
      ++children[node.parent];
    }
    if (node.count < kBlockTokens) continue;
    ++full_nodes;
    KVASIR_CHECK(node.hash == chain_hash(node.domain, node.parent, tokens(block)), name);
    KVASIR_CHECK(find_full(node.domain, node.parent, tokens(block)) == block,
                 name + " is not found by its tokens, or is there twice");
  }
  for (BlockIndex block = 0; block < nodes_.size(); ++block)
    KVASIR_CHECK(children[block] == nodes_[block].children,
                 "children of block " + std::to_string(block) + " are miscounted");
  KVASIR_CHECK(ordered_.size() == nodes);
  KVASIR_CHECK(std::is_sorted(ordered_.begin(), ordered_.end(), Order{this}));
  size_t linked = 0;
  for (BlockIndex head : buckets_)
    for (; head != kNoBlock; head = nodes_[head].next_in_bucket) ++linked;
  KVASIR_CHECK(linked == full_nodes, "hash chains and full nodes disagree");
}

}  // namespace kvasir::kv
