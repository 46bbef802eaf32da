// The scalar definition of right: mean of squares in f64.

#include <cmath>

#include "kernels/rms_norm/rms_norm_rows.h"

namespace kvasir::kernels {

void rms_norm_rows_ref(const RmsNormArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + (args.row_index ? args.row_index[row] : row) * args.size;
    double squares = 0;
    for (int64_t i = 0; i < args.size; ++i) squares += double{x[i]} * x[i];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(args.size) + args.eps);
    for (int64_t i = 0; i < args.size; ++i) {
      const auto value = static_cast<float>(x[i] * scale * args.weight[i]);
      const int64_t at = row * args.y_row_stride + i;
      if (args.y_dtype == DType::kBF16)
        static_cast<bf16_t*>(args.y)[at] = f32_to_bf16(value);
      else if (args.accumulate)
        static_cast<float*>(args.y)[at] += value;
      else
        static_cast<float*>(args.y)[at] = value;
    }
  }
}

}  // namespace kvasir::kernels
