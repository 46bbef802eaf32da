// f32 pages, and bf16 pages widened as they are packed, with 512-bit multiply-adds: 6 x 64 scores
// or sums in 24 of the 32 registers.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

constexpr int kBlockKeys = 128;

#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_float.inc"

constexpr int kRowsTogether = 6;
constexpr int kPanelsTogether = 4;
constexpr int kTileRows = 24;

#include "kernels/paged_attention/paged_attention_decode.inc"
#include "kernels/paged_attention/paged_attention_products.inc"

}  // namespace

const AttentionKernel kPrefillF32Avx512 = {begin_queries<FloatOp>, add_keys<FloatOp>,
                                           finish_queries<FloatOp>, kBlockKeys};
const AttentionKernel kPrefillBf16Avx512 = {begin_queries<WidenOp>, add_keys<WidenOp>,
                                            finish_queries<WidenOp>, kBlockKeys};
const AttentionKernel kDecodeF32Avx512 = {begin_decode<FloatOp>, decode_keys<FloatOp>,
                                          finish_decode<FloatOp>, kBlockKeys};
const AttentionKernel kDecodeBf16Avx512 = {begin_decode<WidenOp>, decode_keys<WidenOp>,
                                           finish_decode<WidenOp>, kBlockKeys};

}  // namespace kvasir::kernels
