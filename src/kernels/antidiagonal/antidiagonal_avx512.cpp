#include <immintrin.h>

#include "kernels/antidiagonal/antidiagonal_part.h"

namespace kvasir::kernels {
namespace {

// clang-format off: each uses those before it
#include "kernels/simd_avx512.inc"
#include "kernels/antidiagonal/antidiagonal_blocks.inc"
#include "kernels/antidiagonal/antidiagonal_product.inc"
// clang-format on

}  // namespace

void pack_groups_avx512(const GroupQueries& queries, std::byte* panel) {
  pack_panel(queries, panel);
}
void score_groups_avx512(const GroupPart& part) { score_part(part); }
void finish_groups_avx512(const GroupFinish& panel) { finish_panel(panel); }

}  // namespace kvasir::kernels
