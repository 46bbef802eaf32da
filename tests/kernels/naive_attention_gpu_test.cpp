#include "kernels/naive_attention.h"
#include "kernels/paged_attention_gpu_cases.h"
#include "kernels/paged_attention_gpu_problem.h"

namespace kvasir::kernels {
namespace {

using NaiveAttention = testing::GpuTest;

// What stands in for the definition on long problems agrees with it on short ones.
TEST_F(NaiveAttention, EqualsTheDefinition) {
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const AttentionShape& shape : quick_prefill_cases()) {
      SCOPED_TRACE(::testing::Message() << dtype_name(dtype) << ", " << shape);
      const GpuAttentionProblem problem(shape, dtype);
      const AttentionResult expected = problem.expected_exact();
      const AttentionResult found = problem.expected_naive(context_);
      for (size_t i = 0; i < expected.out.size() / 4; ++i)
        ASSERT_NEAR(found.value(DType::kF32, i), expected.value(DType::kF32, i), 2e-5);
      for (size_t i = 0; i < expected.lse.size(); ++i) {
        if (std::isinf(expected.lse[i])) {
          ASSERT_EQ(found.lse[i], expected.lse[i]);
        } else if (shape.with_lse) {
          ASSERT_NEAR(found.lse[i], expected.lse[i], 2e-5);
        }
      }
    }
}

}  // namespace
}  // namespace kvasir::kernels
