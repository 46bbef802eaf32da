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
      if (args.y_dtype == DType::kF32)
        static_cast<float*>(args.y)[row * args.y_row_stride + i] = value;
      else
        static_cast<bf16_t*>(args.y)[row * args.y_row_stride + i] = f32_to_bf16(value);
    }
  }
}

}  // namespace kvasir::kernels
