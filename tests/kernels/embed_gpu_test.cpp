#include "kernels/embed/embed_cuda.h"
#include "kernels/gpu.h"
#include "kernels/numeric.h"

namespace kvasir {
namespace {

using Embed = testing::GpuTest;

TEST_F(Embed, RowsOfTheTable) {
  constexpr int64_t kVocab = 37;
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const int64_t size : {8, 384, 4096}) {
      SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", size " << size);
      const std::vector<float> values = testing::normal_values(kVocab * size, 7);
      std::vector<uint16_t> table;
      for (const float value : values)
        table.push_back(dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value));
      const std::vector<int32_t> tokens{36, 0, 5, 5, 12};
      const testing::DeviceArray<uint16_t> table_on_device(table);
      const testing::DeviceArray<int32_t> tokens_on_device(tokens);
      const testing::DeviceArray<float> out(tokens.size() * size);
      kernels::run_embed(context_, {.table = table_on_device.data(),
                                    .dtype = dtype,
                                    .tokens = tokens_on_device.data(),
                                    .rows = std::ssize(tokens),
                                    .size = size,
                                    .out = out.data()});
      const std::vector<float> found = out.read();
      for (size_t row = 0; row < tokens.size(); ++row)
        for (int64_t i = 0; i < size; ++i) {
          const uint16_t half = table[tokens[row] * size + i];
          const float expected = dtype == DType::kBF16 ? bf16_to_f32(half) : f16_to_f32(half);
          ASSERT_EQ(found[row * size + i], expected) << "row " << row << ", element " << i;
        }
    }
}

}  // namespace
}  // namespace kvasir
