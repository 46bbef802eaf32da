#pragma once
// The shape of attention that implementations are chosen by.

#include "base/dtype.h"

namespace kvasir::kernels {

struct AttentionDesc {
  DType dtype = DType::kBF16;  // of q, out and the pages
  int q_heads = 0;
  int kv_heads = 0;  // divides q_heads
  int head_dim = 0;
};

}  // namespace kvasir::kernels
