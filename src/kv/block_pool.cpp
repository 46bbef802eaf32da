#include "kv/block_pool.h"

#include <limits>
#include <string>

#include "base/check.h"
#include "kvasir/error.h"

namespace kvasir::kv {
namespace {

size_t checked_bytes(const KvGeometry& geometry, int64_t blocks) {
  if (geometry.layers < 1 || geometry.kv_heads < 1 || geometry.head_dim < 1 || blocks < 1)
    throw Error(ErrorCode::kInvalidArgument,
                "expected at least one layer, KV head, head dimension and block, found " +
                    std::to_string(geometry.layers) + ", " + std::to_string(geometry.kv_heads) +
                    ", " + std::to_string(geometry.head_dim) + " and " + std::to_string(blocks),
                "KV pool");
  const int64_t most = std::numeric_limits<uint32_t>::max() / geometry.layers - 1;
  int64_t bytes = 0;
  if (blocks > most || __builtin_mul_overflow(blocks, geometry.block_bytes(), &bytes))
    throw Error(ErrorCode::kResourceExhausted,
                "page indices are 32 bits wide: " + std::to_string(geometry.layers) +
                    " layers allow " + std::to_string(most) + " blocks, asked for " +
                    std::to_string(blocks) + "; lower the context or the number of sequences",
                "KV pool");
  if (geometry.page_bytes() % 64 != 0)
    throw Error(ErrorCode::kInvalidArgument, "a page must be a multiple of 64 bytes", "KV pool");
  return static_cast<size_t>(bytes);
}

}  // namespace

BlockPool::BlockPool(const KvGeometry& geometry, int64_t blocks, const PageMemoryFactory& allocate)
    : geometry_(geometry), memory_(allocate(checked_bytes(geometry, blocks))) {
  references_.resize(static_cast<size_t>(blocks));
  free_.reserve(static_cast<size_t>(blocks));
  for (int64_t block = blocks; block-- > 0;) free_.push_back(static_cast<BlockIndex>(block));
}

kernels::PagePool BlockPool::page_pool() const {
  return {.base = memory_->data(),
          .page_bytes = geometry_.page_bytes(),
          .dtype = geometry_.dtype,
          .kv_heads = geometry_.kv_heads,
          .head_dim = geometry_.head_dim};
}

BlockIndex BlockPool::allocate() {
  KVASIR_CHECK(!free_.empty());
  const BlockIndex block = free_.back();
  free_.pop_back();
  references_[block] = 1;
  return block;
}

void BlockPool::give_back(BlockIndex block) {
  KVASIR_CHECK(references_[block] == 0);
  free_.push_back(block);
}

uint32_t BlockPool::drop_reference(BlockIndex block) {
  KVASIR_CHECK(references_[block] > 0);
  return --references_[block];
}

void BlockPool::copy(BlockIndex from, BlockIndex to, int64_t count) {
  for (int layer = 0; layer < geometry_.layers; ++layer)
    copy_page(page(from, layer), page(to, layer), count);
}

void BlockPool::copy_page(uint32_t from, uint32_t to, int64_t count) {
  const auto page_bytes = static_cast<size_t>(geometry_.page_bytes());
  const size_t row = static_cast<size_t>(geometry_.head_dim) * dtype_bytes(geometry_.dtype);
  const size_t plane = row * kBlockTokens;  // the keys or values of one head
  memory_->copy(from * page_bytes, to * page_bytes, plane, row * static_cast<size_t>(count),
                2 * static_cast<size_t>(geometry_.kv_heads));
}

std::vector<bool> BlockPool::free_map() const {
  std::vector<bool> is_free(references_.size());
  for (BlockIndex block : free_) is_free[block] = true;
  return is_free;
}

void BlockPool::check_invariants() const {
  std::vector<bool> seen(references_.size());
  for (BlockIndex block : free_) {
    KVASIR_CHECK(block < references_.size());
    KVASIR_CHECK(!seen[block], "block " + std::to_string(block) + " is twice in the free list");
    KVASIR_CHECK(references_[block] == 0, "free block " + std::to_string(block) + " is in use");
    seen[block] = true;
  }
}

}  // namespace kvasir::kv
