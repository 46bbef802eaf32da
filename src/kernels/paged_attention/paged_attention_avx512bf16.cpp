// bf16 pages where the CPU multiplies bf16: 6 x 64 scores or sums in 24 registers, one dot product
// of pairs each a step.

#include <immintrin.h>

#include "kernels/paged_attention/paged_attention_block.h"

namespace kvasir::kernels {
namespace {

constexpr int kBlockKeys = 128;

#include "kernels/paged_attention/paged_attention_avx512.inc"
#include "kernels/paged_attention/paged_attention_pairs.inc"

constexpr int kRowsTogether = 6;
constexpr int kPanelsTogether = 4;
constexpr int kTileRows = 24;

template <class Op>
void pack_values(const QueryBlock& queries, const KeyBlock& keys) {
  pack_values(
      queries, keys,
      {.panel_bytes = kBlockKeys / 2 * kPanelStepBytes, .granule_bytes = kGranulePanelBytes});
}

#include "kernels/paged_attention/paged_attention_products.inc"

}  // namespace

const AttentionKernel kPrefillBf16Avx512Bf16 = {begin_queries<PairsOp>, add_keys<PairsOp>,
                                                finish_queries<PairsOp>, kBlockKeys};

}  // namespace kvasir::kernels
