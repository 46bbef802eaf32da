#pragma once
// Compacted sequences that outlive their use, found as a whole: by all of their tokens. Their
// blocks are held in the block cache, where they count as cached once no sequence uses them.

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "kv/block_cache.h"
#include "kv/compacted.h"

namespace kvasir::kv {

class CompactedStore {
 public:
  struct Entry {
    Domain domain = 0;
    std::vector<TokenId> tokens;
    CompactedPages pages;
  };

  explicit CompactedStore(BlockCache& cache) : cache_(cache) {}

  // Keeps what is not there yet; used now in any case.
  void keep(Domain domain, std::span<const TokenId> tokens, const CompactedPages& pages);
  // The longest one of `domain` whose tokens all begin `prompt`, with one at least left over; null
  // where there is none.
  const Entry* find(Domain domain, std::span<const TokenId> prompt) const;
  void touch(const Entry& entry);

  // When the least recently used one was; the end of time where there is none.
  uint64_t oldest() const { return by_use_.empty() ? ~uint64_t{0} : by_use_.begin()->first; }
  // Forgets that one. Precondition: there is one.
  void evict();

  void check_invariants() const;

 private:
  using Uses = std::map<uint64_t, Entry>;  // by last use

  BlockCache& cache_;
  Uses by_use_;
};

}  // namespace kvasir::kv
