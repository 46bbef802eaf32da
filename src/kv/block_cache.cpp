#include "kv/block_cache.h"

#include <string>

#include "base/check.h"

namespace kvasir::kv {

BlockCache::BlockCache(const KvGeometry& geometry, int64_t blocks,
                       const PageMemoryFactory& allocate)
    : pool_(geometry, blocks, allocate), tree_(blocks), states_(static_cast<size_t>(blocks)) {}

BlockIndex BlockCache::allocate(SequenceId owner) {
  const BlockIndex block = pool_.allocate();
  states_[block] = {.owner = owner};
  return block;
}

void BlockCache::use(BlockIndex block) {
  if (is_cached(block)) {
    --cached_;
    if (is_evictable(block)) evictable_.erase({states_[block].last_use, block});
  }
  pool_.add_reference(block);
}

void BlockCache::leave(BlockIndex block, SequenceId user) {
  State& state = states_[block];
  if (state.owner == user) state.owner = kNoSequence;
  if (pool_.drop_reference(block) > 0) return;
  if (state.holds > 0) {
    ++cached_;
    return;
  }
  if (!tree_.contains(block)) {
    pool_.give_back(block);
    return;
  }
  if (!state.kept) {
    forget(block);
    return;
  }
  state.last_use = ++clock_;
  ++cached_;
  if (tree_.children(block) == 0) evictable_.emplace(state.last_use, block);
}

void BlockCache::drop_hold(BlockIndex block) {
  KVASIR_CHECK(states_[block].holds > 0);
  if (--states_[block].holds > 0 || pool_.references(block) > 0) return;
  --cached_;
  pool_.give_back(block);
}

void BlockCache::evict() {
  KVASIR_CHECK(!evictable_.empty());
  const BlockIndex block = evictable_.begin()->second;
  evictable_.erase(evictable_.begin());
  --cached_;
  forget(block);
}

void BlockCache::forget(BlockIndex block) {
  const BlockIndex parent = tree_.parent(block);
  tree_.remove(block);
  pool_.give_back(block);
  if (parent != kNoBlock && is_evictable(parent))
    evictable_.emplace(states_[parent].last_use, parent);
}

void BlockCache::check_invariants() const {
  pool_.check_invariants();
  tree_.check_invariants();
  const std::vector<bool> is_free = pool_.free_map();
  int64_t cached = 0, evictable = 0;
  for (BlockIndex block = 0; block < states_.size(); ++block) {
    const std::string name = "block " + std::to_string(block);
    const bool used = pool_.references(block) > 0, found = tree_.contains(block);
    const bool held = states_[block].holds > 0;
    KVASIR_CHECK(!held || !found, name + " is held and in the tree");
    KVASIR_CHECK(is_free[block] == (!used && !found && !held), name + " is lost or twice there");
    if (is_free[block]) continue;
    cached += is_cached(block);
    evictable += is_evictable(block);
    KVASIR_CHECK(used || held || states_[block].kept, name + " is cached, but nobody has kept it");
    KVASIR_CHECK(used || states_[block].owner == kNoSequence, name + " is cached and owned");
    KVASIR_CHECK(is_evictable(block) == evictable_.contains({states_[block].last_use, block}),
                 name + " is wrong in the order of eviction");
    if (!found || tree_.parent(block) == kNoBlock) continue;
    const BlockIndex parent = tree_.parent(block);
    KVASIR_CHECK(pool_.references(parent) >= pool_.references(block),
                 name + " has more users than its parent");
    KVASIR_CHECK(!states_[block].kept || states_[parent].kept, name + " is kept, its parent not");
    KVASIR_CHECK(
        used || pool_.references(parent) > 0 || states_[parent].last_use >= states_[block].last_use,
        name + " was used after its parent");
  }
  KVASIR_CHECK(cached == cached_ && evictable == std::ssize(evictable_),
               "cached blocks are miscounted");
}

}  // namespace kvasir::kv
