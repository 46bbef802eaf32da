#include <cmath>
#include <vector>
#include "kernels/paged_attention/paged_attention.h"
namespace kvasir::kernels {
static float ld(const void* p, int64_t i, DType d) {
  return d == DType::kF32 ? static_cast<const float*>(p)[i] : bf16_to_f32(static_cast<const bf16_t*>(p)[i]);
}
size_t attention_workspace_bytes(const AttentionDesc&, int64_t, int64_t, int64_t, int) { return 64; }
void run_attention(const CpuContext& c, const AttentionArgs& a, Isa) { run_attention_reference(c, a); }
std::string_view attention_implementation(const AttentionDesc&, Isa) { return "paged_attention_ref"; }
void run_attention_reference(const CpuContext& c, const AttentionArgs& a) {
  const int hd = a.pages.head_dim, group = a.q_heads / a.pages.kv_heads;
  for (size_t s = 0; s < a.spans.size(); ++s) {
    const auto& sp = a.spans[s];
    c.pool.parallel(sp.rows * a.q_heads, [&](int64_t t, int) {
      const int64_t r = t / a.q_heads, h = t % a.q_heads, g = h / group, row = sp.first_row + r;
      const int64_t p = sp.query_offset + r, lo = a.window ? std::max<int64_t>(0, p - a.window + 1) : 0;
      std::vector<double> w(p + 1), o(hd);
      double mx = -INFINITY, sum = 0;
      for (int64_t j = lo; j <= p; ++j) {
        const std::byte* pg = a.pages.page(sp.page_table[j / 64]);
        double d = 0;
        for (int i = 0; i < hd; ++i) d += double(ld(a.q, row * a.q_row_stride + h * hd + i, a.pages.dtype)) * ld(pg, (g * 2 * 64 + j % 64) * hd + i, a.pages.dtype);
        w[j] = d * a.scale; mx = std::max(mx, w[j]);
      }
      for (int64_t j = lo; j <= p; ++j) {
        const std::byte* pg = a.pages.page(sp.page_table[j / 64]);
        const double e = std::exp(w[j] - mx); sum += e;
        for (int i = 0; i < hd; ++i) o[i] += e * ld(pg, ((g * 2 + 1) * 64 + j % 64) * hd + i, a.pages.dtype);
      }
      for (int i = 0; i < hd; ++i) {
        const int64_t at = (row * a.q_heads + h) * hd + i;
        if (a.pages.dtype == DType::kF32) static_cast<float*>(a.out)[at] = o[i] / sum;
        else static_cast<bf16_t*>(a.out)[at] = f32_to_bf16(o[i] / sum);
      }
      if (a.lse) a.lse[row * a.q_heads + h] = mx + std::log(sum);
    });
    if (a.scored_pairs) a.scored_pairs[s] += a.q_heads * (sp.rows * sp.query_offset + sp.rows * (sp.rows + 1) / 2);
  }
}
}
