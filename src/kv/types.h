#pragma once
// The words of this room: ids, domains and the geometry of a block.

#include <cstdint>
#include <limits>

#include "kernels/page.h"

namespace kvasir::kv {

using SequenceId = uint32_t;  // never 0; not used twice
using Domain = uint64_t;
using BlockIndex = uint32_t;

inline constexpr SequenceId kNoSequence = 0;
inline constexpr BlockIndex kNoBlock = std::numeric_limits<BlockIndex>::max();
inline constexpr int64_t kBlockTokens = kernels::kPageTokens;

// Blocks that hold `tokens` positions.
constexpr int64_t blocks_for(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

// How keys and values are stored in a page. One form so far.
enum class StorageForm : uint8_t { kPlain };

struct KvGeometry {
  int layers = 0;
  DType dtype = DType::kBF16;
  int kv_heads = 0;
  int head_dim = 0;
  StorageForm form = StorageForm::kPlain;

  int64_t page_bytes() const {
    return kernels::PagePool::plain_page_bytes(dtype, kv_heads, head_dim);
  }
  int64_t block_bytes() const { return layers * page_bytes(); }
  int64_t bytes_per_token() const { return block_bytes() / kernels::kPageTokens; }
};

}  // namespace kvasir::kv
