#include <cmath>

#include "kernels/gated/gated_cuda.h"
#include "kernels/gpu.h"
#include "kernels/numeric.h"

namespace kvasir {
namespace {

using testing::DeviceArray;
using testing::Matrix;

using Gated = testing::GpuTest;

TEST_F(Gated, AgreesWithTheFormula) {
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const bool has_bias : {false, true})
      for (const int64_t rows : {1, 3, 70})
        for (const int64_t size : {8, 72, 1096, 4104}) {
          if (rows == 70 && size > 1096) continue;
          SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << rows << " x " << size
                                            << (has_bias ? ", bias" : ""));
          const Matrix gate_up(rows, 2 * size, 2 * size, dtype, 1, 3);
          const std::vector<float> bias = testing::normal_values(2 * size, 2);
          Matrix y(rows, size, size, dtype), expected = y;
          for (int64_t row = 0; row < rows; ++row)
            for (int64_t i = 0; i < size; ++i) {
              const double gate = gate_up.at(row, i) + (has_bias ? bias[i] : 0.0);
              const double up = gate_up.at(row, size + i) + (has_bias ? bias[size + i] : 0.0);
              expected.set(row, i, static_cast<float>(gate / (1 + std::exp(-gate)) * up));
            }
          const DeviceArray<std::byte> gate_up_on_device(gate_up.bytes());
          const DeviceArray<float> bias_on_device(bias);
          const DeviceArray<std::byte> y_on_device(y.bytes());
          kernels::run_gated(context_, {.gate_up = gate_up_on_device.data(),
                                        .bias = has_bias ? bias_on_device.data() : nullptr,
                                        .y = y_on_device.data(),
                                        .dtype = dtype,
                                        .rows = rows,
                                        .size = size});
          const std::vector<std::byte> found = y_on_device.read();
          std::memcpy(y.data(), found.data(), found.size());
          testing::expect_close(y, expected, testing::bounds_of(dtype));
        }
}

TEST_F(Gated, NoRows) {
  kernels::run_gated(context_, {.size = 64});
  synchronize();
}

}  // namespace
}  // namespace kvasir
