#pragma once
// Blocks in use, cached and free: joins the pool's reference counts with the prefix tree. A block
// is
//   free    no references, not in the tree;
//   used    referenced; in the tree once it holds committed positions;
//   cached  no references, in the tree, and kept: some user has asked for it to outlive its use;
//           or held for a compacted sequence (compacted_store.h), and never in the tree.
// A used block's parent is used and a kept block's parent is kept, so every cached block can be
// evicted, leaf by leaf: free + cached blocks are available, no more and no less.

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "kv/block_pool.h"
#include "kv/prefix_tree.h"

namespace kvasir::kv {

class BlockCache {
 public:
  BlockCache(const KvGeometry& geometry, int64_t blocks, const PageMemoryFactory& allocate);

  BlockPool& pool() { return pool_; }
  const BlockPool& pool() const { return pool_; }
  PrefixTree& tree() { return tree_; }
  const PrefixTree& tree() const { return tree_; }

  int64_t cached() const { return cached_; }
  int64_t available() const { return pool_.free() + cached_; }

  // A block of one's own, appendable by `owner`. Precondition: a block is free.
  BlockIndex allocate(SequenceId owner);
  void use(BlockIndex block);
  // `user` leaves the block; with the last user it becomes cached if kept and free otherwise.
  void leave(BlockIndex block, SequenceId user);
  // It and its ancestors outlive their use.
  void keep(BlockIndex block) { states_[block].kept = true; }
  bool kept(BlockIndex block) const { return states_[block].kept; }
  // It outlives its use until each hold is dropped. Precondition: used or held, not in the tree.
  void hold(BlockIndex block) { ++states_[block].holds; }
  void drop_hold(BlockIndex block);
  uint32_t holds(BlockIndex block) const { return states_[block].holds; }

  // Who may append to a partly filled block.
  SequenceId owner(BlockIndex block) const { return states_[block].owner; }
  void set_owner(BlockIndex block, SequenceId owner) { states_[block].owner = owner; }

  // When the least recently used leaf was left; the end of time where there is none.
  uint64_t oldest_leaf() const {
    return evictable_.empty() ? ~uint64_t{0} : evictable_.begin()->first;
  }
  // That leaf becomes free. Precondition: there is one.
  void evict();
  uint64_t tick() { return ++clock_; }

  // Throws kInternal where states, tree and pool disagree.
  void check_invariants() const;

 private:
  struct State {
    uint64_t last_use = 0;  // tick at which the last user left
    SequenceId owner = kNoSequence;
    uint32_t holds = 0;
    bool kept = false;
  };

  bool is_cached(BlockIndex block) const {
    return pool_.references(block) == 0 && (tree_.contains(block) || states_[block].holds > 0);
  }
  bool is_evictable(BlockIndex block) const {
    return pool_.references(block) == 0 && tree_.contains(block) && tree_.children(block) == 0;
  }
  void forget(BlockIndex block);  // out of the tree, to the free list

  BlockPool pool_;
  PrefixTree tree_;
  std::vector<State> states_;                            // [blocks]
  std::set<std::pair<uint64_t, BlockIndex>> evictable_;  // (last use, cached leaf)
  int64_t cached_ = 0;
  uint64_t clock_ = 0;
};

}  // namespace kvasir::kv
