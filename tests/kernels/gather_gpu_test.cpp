#include "kernels/gather/gather_cuda.h"
#include "kernels/gpu.h"

namespace kvasir {
namespace {

using Gather = testing::GpuTest;

TEST_F(Gather, RowsInTheirNewOrder) {
  for (const int64_t row_bytes : {16, 768, 16384}) {
    std::vector<uint8_t> values(9 * row_bytes);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
    const std::vector<int32_t> index{8, 0, 3, 3};
    const testing::DeviceArray<uint8_t> x(values);
    const testing::DeviceArray<int32_t> index_on_device(index);
    const testing::DeviceArray<uint8_t> y(index.size() * row_bytes);
    kernels::run_gather(context_, {.x = x.data(),
                                   .y = y.data(),
                                   .row_bytes = row_bytes,
                                   .row_index = index_on_device.data(),
                                   .rows = std::ssize(index)});
    const std::vector<uint8_t> found = y.read();
    for (size_t row = 0; row < index.size(); ++row)
      for (int64_t i = 0; i < row_bytes; ++i)
        ASSERT_EQ(found[row * row_bytes + i], values[index[row] * row_bytes + i]);
  }
}

}  // namespace
}  // namespace kvasir
