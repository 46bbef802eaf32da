#pragma once
// The plain storage form of KV pages, as every kernel reads it.
//
// A page holds 64 consecutive positions of one layer, all KV heads:
//   [kv_heads][2 (K, then V)][64][head_dim], row-major, no padding, 64-byte aligned.
// A page table lists the pages of one sequence in one layer: position p is row p % 64 of page
// table[p / 64]. Page `i` starts at pool + i * page_bytes.

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace kvasir::kernels {

inline constexpr int64_t kPageTokens = 64;

struct PagePool {
  std::byte* base = nullptr;
  int64_t page_bytes = 0;  // may exceed the plain size of one page
  DType dtype = DType::kBF16;
  int kv_heads = 0;
  int head_dim = 0;

  static constexpr int64_t plain_page_bytes(DType dtype, int kv_heads, int head_dim) {
    return int64_t{kv_heads} * 2 * kPageTokens * head_dim *
           static_cast<int64_t>(dtype_bytes(dtype));
  }
  std::byte* page(uint32_t index) const { return base + int64_t{index} * page_bytes; }
};

}  // namespace kvasir::kernels
