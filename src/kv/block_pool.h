#pragma once
// The memory of all blocks: one reservation, a free list and reference counts. Knows nothing of
// tokens.

#include <cstdint>
#include <vector>

#include "kernels/page.h"
#include "kv/page_memory.h"
#include "kv/types.h"

namespace kvasir::kv {

class BlockPool {
 public:
  // Throws kInvalidArgument for an impossible geometry, kResourceExhausted where `allocate` refuses
  // or page indices would not fit 32 bits.
  BlockPool(const KvGeometry& geometry, int64_t blocks, const PageMemoryFactory& allocate);

  const KvGeometry& geometry() const { return geometry_; }
  int64_t total() const { return static_cast<int64_t>(references_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  kernels::PagePool page_pool() const;

  // The layers of a block lie side by side, so that a block moves as one extent.
  uint32_t page(BlockIndex block, int layer) const {
    return block * static_cast<uint32_t>(geometry_.layers) + static_cast<uint32_t>(layer);
  }

  BlockIndex block_of(uint32_t page) const {
    return page / static_cast<uint32_t>(geometry_.layers);
  }

  // Takes a block off the free list, with one reference. Precondition: free() > 0. The block given
  // back last goes out first, so that the memory touched stays small.
  BlockIndex allocate();
  // Puts a block without references back.
  void give_back(BlockIndex block);

  uint32_t references(BlockIndex block) const { return references_[block]; }
  void add_reference(BlockIndex block) { ++references_[block]; }
  // Returns how many are left.
  uint32_t drop_reference(BlockIndex block);

  // Copies slots [0, count) of one page.
  void copy_page(uint32_t from, uint32_t to, int64_t count);
  // Copies positions [0, count) of every layer.
  void copy(BlockIndex from, BlockIndex to, int64_t count);

  // Free blocks are distinct and unreferenced; throws kInternal otherwise.
  void check_invariants() const;
  std::vector<bool> free_map() const;

 private:
  KvGeometry geometry_;
  std::unique_ptr<PageMemory> memory_;
  std::vector<uint32_t> references_;
  std::vector<BlockIndex> free_;
};

}  // namespace kvasir::kv
