#pragma once
// Which tokens each findable block holds, and how to find it by them.
//
// A node is a block: its domain, its parent (the block of the 64 positions before; none at the
// start of a sequence) and 1 to 64 tokens. Only full nodes have children. Two structures find them:
//   - full nodes by a hash that chains (domain, all tokens so far), O(1) a block; the parent and
//     the tokens are compared too, so that a collision never shares wrong KV;
//   - all nodes in the order (domain, parent, tokens), in which the neighbours of a query have the
//     longest common prefix with it, O(log n).
// Among full nodes of one parent no two have the same tokens; partial ones may repeat one another.
// Knows nothing of references, memory or age.

#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "kv/types.h"
#include "kvasir/request.h"

namespace kvasir::kv {

class PrefixTree {
 public:
  // `hash_mask` keeps some bits of the hash only; for tests of collisions.
  explicit PrefixTree(int64_t blocks, uint64_t hash_mask = ~uint64_t{0});
  PrefixTree(const PrefixTree&) = delete;  // the order refers to this object
  PrefixTree& operator=(const PrefixTree&) = delete;

  bool contains(BlockIndex block) const { return nodes_[block].count > 0; }
  // Findable positions of the block; 0 = not in the tree.
  int64_t count(BlockIndex block) const { return nodes_[block].count; }
  BlockIndex parent(BlockIndex block) const { return nodes_[block].parent; }
  Domain domain(BlockIndex block) const { return nodes_[block].domain; }
  int64_t children(BlockIndex block) const { return nodes_[block].children; }
  std::span<const TokenId> tokens(BlockIndex block) const;

  // The full child of `parent` (kNoBlock: the start of `domain`) with exactly these 64 tokens, or
  // kNoBlock.
  BlockIndex find_full(Domain domain, BlockIndex parent, std::span<const TokenId> tokens) const;

  struct Partial {
    BlockIndex block = kNoBlock;
    int64_t length = 0;  // equal leading tokens
  };
  // The child of `parent` that shares the most leading tokens.
  Partial find_partial(Domain domain, BlockIndex parent, std::span<const TokenId> tokens) const;

  // Enters a block; 1 to 64 tokens. With 64, find_full() must have found nothing.
  void insert(BlockIndex block, Domain domain, BlockIndex parent, std::span<const TokenId> tokens);
  // Adds tokens to a partial node. The same rule where it becomes full.
  void extend(BlockIndex block, std::span<const TokenId> tokens);
  // Forgets the tokens from `count` >= 1 on. Precondition: no children.
  void shrink(BlockIndex block, int64_t count);
  // Precondition: no children.
  void remove(BlockIndex block);

  // Throws kInternal where nodes, hashes, order or counts disagree.
  void check_invariants() const;

 private:
  struct Node {
    Domain domain = 0;
    uint64_t hash = 0;  // of a full node
    BlockIndex parent = kNoBlock;
    BlockIndex next_in_bucket = kNoBlock;
    uint32_t children = 0;
    uint32_t count = 0;
  };
  struct Key {
    Domain domain;
    BlockIndex parent;
    std::span<const TokenId> tokens;
  };
  struct Order {
    using is_transparent = void;
    const PrefixTree* tree;
    bool operator()(BlockIndex a, BlockIndex b) const;
    bool operator()(BlockIndex a, const Key& b) const;
  };

  TokenId* storage(BlockIndex block) { return tokens_.data() + size_t{block} * kBlockTokens; }
  Key key(BlockIndex block) const;
  uint64_t chain_hash(Domain domain, BlockIndex parent, std::span<const TokenId> tokens) const;
  size_t bucket(uint64_t hash) const { return hash & (buckets_.size() - 1); }
  void link(BlockIndex block);    // a node that has become full
  void unlink(BlockIndex block);  // a full node

  std::vector<Node> nodes_;          // [blocks]
  std::vector<TokenId> tokens_;      // [blocks][64]
  std::vector<BlockIndex> buckets_;  // heads of the chains through next_in_bucket
  uint64_t hash_mask_;
  std::set<BlockIndex, Order> ordered_;
};

}  // namespace kvasir::kv
