// f32 pages, and bf16 pages widened as they are packed, with 256-bit multiply-adds: 6 x 16 scores
// or sums in 12 of the 16 registers.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

constexpr int kBlockKeys = 128;

#include "kernels/paged_attention/paged_attention_avx2.inc"
#include "kernels/paged_attention/paged_attention_float.inc"

constexpr int kRowsTogether = 6;
constexpr int kPanelsTogether = 1;
constexpr int kTileRows = 24;

#include "kernels/paged_attention/paged_attention_decode.inc"
#include "kernels/paged_attention/paged_attention_products.inc"

}  // namespace

const AttentionKernel kPrefillF32Avx2 = {begin_queries<FloatOp>, add_keys<FloatOp>,
                                         finish_queries<FloatOp>, kBlockKeys};
const AttentionKernel kPrefillBf16Avx2 = {begin_queries<WidenOp>, add_keys<WidenOp>,
                                          finish_queries<WidenOp>, kBlockKeys};
const AttentionKernel kDecodeF32Avx2 = {begin_decode<FloatOp>, decode_keys<FloatOp>,
                                        finish_decode<FloatOp>, kBlockKeys};
const AttentionKernel kDecodeBf16Avx2 = {begin_decode<WidenOp>, decode_keys<WidenOp>,
                                         finish_decode<WidenOp>, kBlockKeys};

}  // namespace kvasir::kernels
