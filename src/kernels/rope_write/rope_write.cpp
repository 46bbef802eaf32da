#include "kernels/rope_write/rope_write.h"

#include <algorithm>

#include "kernels/registry.h"
#include "kernels/rope_write/rope_write_rows.h"

namespace kvasir::kernels {
namespace {

using RopeWriteImplementation = Implementation<RopeWriteArgs, RopeWriteFunction>;

bool any(const RopeWriteArgs&) { return true; }

constexpr RopeWriteImplementation kTable[] = {
    {"rope_write_ref", Isa::kScalar, any, 0, rope_write_row_ref},
#if defined(__x86_64__)
    {"rope_write_avx2", Isa::kAvx2, any, 1, rope_write_row_avx2},
    {"rope_write_avx512", Isa::kAvx512, any, 2, rope_write_row_avx512},
#endif
};

// Elements that one thread writes in about 4 microseconds: less is not worth sharing.
constexpr int64_t kTaskElements = 16 << 10;

void check(const RopeWriteArgs& args) {
  const auto require = [](bool condition, const char* message) {
    if (!condition) throw Error(ErrorCode::kInvalidArgument, message, "run_rope_write");
  };
  require(args.pages.dtype != DType::kF16, "expected pages in f32 or bf16, found f16");
  require(
      args.rotary_dim >= 0 && args.rotary_dim % 2 == 0 && args.rotary_dim <= args.pages.head_dim,
      "expected an even rotary_dim of at most head_dim");
  require(args.q_heads == 0 || args.q_out, "expected q_out where there are query heads");
  require(!args.has_kv || (args.pages.base && args.slot_page && args.slot_row),
          "expected pages and slots where there are keys and values");
}

void run(const CpuContext& context, const RopeWriteArgs& args, RopeWriteFunction write_row) {
  if (args.rows <= 0) return;
  check(args);
  const int kv_heads = args.has_kv ? args.pages.kv_heads : 0;
  const int64_t head_dim = args.pages.head_dim;
  const int64_t row_elements = (args.q_heads + 2 * kv_heads) * head_dim;
  const int64_t head_bytes = head_dim * static_cast<int64_t>(dtype_bytes(args.pages.dtype));
  const int64_t tasks = std::clamp<int64_t>(args.rows * row_elements / kTaskElements, 1, args.rows);
  context.pool.parallel(tasks, [&](int64_t task, int) {
    if (context.cancelled()) return;
    for (int64_t row = args.rows * task / tasks; row < args.rows * (task + 1) / tasks; ++row) {
      RopeWriteRow out{.heads = args.qkv + row * row_elements,
                       .q_heads = args.q_heads,
                       .kv_heads = kv_heads,
                       .head_dim = args.pages.head_dim,
                       .rotary_dim = args.rotary_dim,
                       .interleaved = args.interleaved,
                       .cos_sin = args.cos_sin + row * args.rotary_dim,
                       .q_norm = args.q_norm,
                       .k_norm = args.k_norm,
                       .norm_eps = args.norm_eps,
                       .dtype = args.pages.dtype,
                       .kv_offset = kPageTokens * head_bytes,
                       .kv_head_bytes = 2 * kPageTokens * head_bytes};
      if (args.q_heads > 0)
        out.q_out = static_cast<std::byte*>(args.q_out) + row * args.q_heads * head_bytes;
      if (kv_heads > 0)
        out.k_out = args.pages.page(args.slot_page[row]) + args.slot_row[row] * head_bytes;
      write_row(out);
    }
  });
}

}  // namespace

void run_rope_write(const CpuContext& context, const RopeWriteArgs& args, Isa at_most) {
  run(context, args, find<RopeWriteArgs, RopeWriteFunction>(kTable, args, at_most).run);
}

void run_rope_write_reference(const CpuContext& context, const RopeWriteArgs& args) {
  run(context, args, rope_write_row_ref);
}

}  // namespace kvasir::kernels
