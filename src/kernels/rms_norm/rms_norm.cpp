#include "kernels/rms_norm/rms_norm.h"

#include <algorithm>

#include "kernels/registry.h"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace kvasir::kernels {
namespace {

using RmsNormImplementation = Implementation<RmsNormArgs, RmsNormFunction>;

bool any(const RmsNormArgs&) { return true; }

constexpr RmsNormImplementation kTable[] = {
    {"rms_norm_ref", Isa::kScalar, any, 0, rms_norm_rows_ref},
#if defined(__x86_64__)
    {"rms_norm_avx2", Isa::kAvx2, any, 1, rms_norm_rows_avx2},
    {"rms_norm_avx512", Isa::kAvx512, any, 2, rms_norm_rows_avx512},
#endif
};

// Elements that one thread norms in about 4 microseconds: less is not worth sharing.
constexpr int64_t kTaskElements = 32 << 10;

void run(const CpuContext& context, const RmsNormArgs& args, RmsNormFunction norm_rows) {
  if (args.y_dtype == DType::kF16)
    throw Error(ErrorCode::kInvalidArgument, "expected y in f32 or bf16, found f16",
                "run_rms_norm");
  if (args.accumulate && args.y_dtype != DType::kF32)
    throw Error(ErrorCode::kInvalidArgument, "expected y in f32 to add to, found bf16",
                "run_rms_norm");
  const int64_t wanted = args.rows * args.size / kTaskElements;
  const int64_t tasks = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(args.rows, 1));
  context.pool.parallel(tasks, [&](int64_t task, int) {
    if (context.cancelled()) return;
    norm_rows(args, args.rows * task / tasks, args.rows * (task + 1) / tasks);
  });
}

}  // namespace

void run_rms_norm(const CpuContext& context, const RmsNormArgs& args, Isa at_most) {
  run(context, args, find<RmsNormArgs, RmsNormFunction>(kTable, args, at_most).run);
}

void run_rms_norm_reference(const CpuContext& context, const RmsNormArgs& args) {
  run(context, args, rms_norm_rows_ref);
}

}  // namespace kvasir::kernels
