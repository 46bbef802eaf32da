// The scalar definition of right, in f64 up to the last rounding.

#include <cmath>

#include "kernels/rope_write/rope_write_rows.h"

namespace kvasir::kernels {
namespace {

void store(DType dtype, std::byte* out, int i, double value) {
  const auto rounded = static_cast<float>(value);
  if (dtype == DType::kF32)
    reinterpret_cast<float*>(out)[i] = rounded;
  else
    reinterpret_cast<bf16_t*>(out)[i] = f32_to_bf16(rounded);
}

void write_head(const RopeWriteRow& row, const float* x, const float* norm, int rotary_dim,
                std::byte* out) {
  double scale = 1;
  if (norm) {
    double squares = 0;
    for (int i = 0; i < row.head_dim; ++i) squares += double{x[i]} * x[i];
    scale = 1 / std::sqrt(squares / row.head_dim + row.norm_eps);
  }
  const auto element = [&](int i) { return norm ? x[i] * scale * norm[i] : double{x[i]}; };
  const int half = rotary_dim / 2;
  for (int i = 0; i < half; ++i) {
    const double cosine = row.cos_sin[i];
    const double sine = row.cos_sin[half + i];
    const int first = row.interleaved ? 2 * i : i;
    const int second = row.interleaved ? 2 * i + 1 : half + i;
    store(row.dtype, out, first, element(first) * cosine - element(second) * sine);
    store(row.dtype, out, second, element(second) * cosine + element(first) * sine);
  }
  for (int i = rotary_dim; i < row.head_dim; ++i) store(row.dtype, out, i, element(i));
}

}  // namespace

void rope_write_row_ref(const RopeWriteRow& row) {
  const auto head_bytes = row.head_dim * static_cast<int64_t>(dtype_bytes(row.dtype));
  const float* x = row.heads;
  for (int head = 0; head < row.q_heads; ++head, x += row.head_dim)
    write_head(row, x, row.q_norm, row.rotary_dim, row.q_out + head * head_bytes);
  for (int head = 0; head < row.kv_heads; ++head, x += row.head_dim)
    write_head(row, x, row.k_norm, row.rotary_dim, row.k_out + head * row.kv_head_bytes);
  for (int head = 0; head < row.kv_heads; ++head, x += row.head_dim)
    write_head(row, x, nullptr, 0, row.k_out + head * row.kv_head_bytes + row.kv_offset);
}

}  // namespace kvasir::kernels
