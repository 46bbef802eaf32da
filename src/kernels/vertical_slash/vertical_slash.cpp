#include "kernels/vertical_slash/vertical_slash.h"

#include <algorithm>
#include <cmath>

#include "kernels/registry.h"
#include "kernels/vertical_slash/vertical_slash_range.h"

namespace kvasir::kernels {
namespace {

using Run = void (*)(const CpuContext& context, const VerticalSlashArgs& args);
using VerticalSlashImplementation = Implementation<VerticalSlashArgs, Run>;

constexpr int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

int64_t range_count(int64_t length) {
  return (length + kEstimateRangeKeys - 1) / kEstimateRangeKeys;
}

// The workspace's parts, in floats; each starts at a multiple of 16.
struct Layout {
  Layout(int heads, int head_dim, int64_t length, int threads) {
    const int64_t rows = int64_t{heads} * kEstimateRows;
    const int64_t ranges = range_count(length);
    q = take(rows * head_dim);
    lse = take(rows);
    maxima = take(ranges * rows);
    sums = take(ranges * rows);
    carry = take(ranges * rows);
    // Transposed keys, a block of scores, then skewed rows or running maxima, then diagonals.
    const int64_t states = std::max<int64_t>(kEstimateRows * 2 * kEstimateTile, rows * 32);
    worker_floats = round_up(int64_t{head_dim} * kEstimateTile + 4 * kEstimateTile + states +
                                 heads * (kEstimateRangeKeys + 2 * kEstimateTile),
                             16);
    scratch = take(worker_floats * threads);
  }
  int64_t take(int64_t floats) {
    const int64_t at = size;
    size += round_up(floats, 16);
    return at;
  }
  int64_t q, lse, maxima, sums, carry, scratch;
  int64_t worker_floats = 0;
  int64_t size = 0;
};

// The queries as f32, scaled so that 2^score is the weight.
void prepare_queries(const VerticalSlashArgs& args, int rows, float* out) {
  const int head_dim = args.pages.head_dim;
  const float scale = args.scale * 1.44269504088896340736f;
  for (const int32_t head : args.heads) {
    for (int row = 0; row < kEstimateRows; ++row, out += head_dim) {
      const int64_t at = (args.rows - rows + row) * args.q_row_stride + int64_t{head} * head_dim;
      for (int i = 0; i < head_dim; ++i) {
        if (row >= rows)
          out[i] = 0;
        else if (args.pages.dtype == DType::kF32)
          out[i] = scale * static_cast<const float*>(args.q)[at + i];
        else
          out[i] = scale * bf16_to_f32(static_cast<const bf16_t*>(args.q)[at + i]);
      }
    }
  }
}

// log2 of a row's sum over all ranges, in ascending order.
float row_lse(const float* maxima, const float* sums, int64_t ranges, int64_t stride) {
  float maximum = maxima[0];
  for (int64_t i = 1; i < ranges; ++i) maximum = std::max(maximum, maxima[i * stride]);
  double sum = 0;
  for (int64_t i = 0; i < ranges; ++i)
    sum += sums[i * stride] * std::exp2(double{maxima[i * stride]} - maximum);
  return static_cast<float>(maximum + std::log2(sum));
}

// Adds what ranges have found on the diagonals of the keys behind them.
void add_carries(const VerticalSlashArgs& args, const float* carry, int64_t length) {
  const auto heads = std::ssize(args.heads);
  for (int64_t range = 0; range + 1 < range_count(length); ++range) {
    const int64_t first_key = (range + 1) * kEstimateRangeKeys;
    const int64_t count = std::min<int64_t>(kEstimateRows, length - first_key);
    for (int64_t head = 0; head < heads; ++head) {
      const float* from = carry + (range * heads + head) * kEstimateRows;
      float* out = args.offset_sums + head * args.sums_row_stride + length - 1 - first_key;
      for (int64_t x = 0; x < count; ++x) out[-x] += from[x];
    }
  }
}

void run(const CpuContext& context, const VerticalSlashArgs& args,
         const EstimateFunctions& functions) {
  const PagePool& pages = args.pages;
  const int heads = static_cast<int>(args.heads.size());
  const int64_t length = args.query_offset + args.rows;
  const int rows = static_cast<int>(std::min(args.rows, kEstimateQueries));
  const Layout layout(heads, pages.head_dim, length, context.pool.size());
  auto* const floats = reinterpret_cast<float*>(args.workspace);
  prepare_queries(args, rows, floats + layout.q);
  const auto range_of = [&](int64_t index, int worker) {
    const int64_t first_key = index * kEstimateRangeKeys;
    const int64_t head_bytes =
        2 * kPageTokens * pages.head_dim * static_cast<int64_t>(dtype_bytes(pages.dtype));
    return EstimateRange{
        .q = floats + layout.q,
        .heads = heads,
        .rows = rows,
        .head_dim = pages.head_dim,
        .length = length,
        .first_key = first_key,
        .keys = std::min<int64_t>(kEstimateRangeKeys, length - first_key),
        .is_bf16 = pages.dtype == DType::kBF16,
        .pages = reinterpret_cast<const char*>(pages.base) + args.kv_head * head_bytes,
        .page_bytes = pages.page_bytes,
        .page_table = args.page_table,
        .scratch = floats + layout.scratch + worker * layout.worker_floats};
  };

  const int64_t ranges = range_count(length);
  const int64_t all_rows = int64_t{heads} * kEstimateRows;
  context.pool.parallel(ranges, [&](int64_t index, int worker) {
    if (context.cancelled()) return;
    functions.maxima(range_of(index, worker), floats + layout.maxima + index * all_rows,
                     floats + layout.sums + index * all_rows);
  });
  if (context.cancelled()) return;
  for (int64_t row = 0; row < all_rows; ++row)
    floats[layout.lse + row] =
        row % kEstimateRows < rows
            ? row_lse(floats + layout.maxima + row, floats + layout.sums + row, ranges, all_rows)
            : 0.0f;
  context.pool.parallel(ranges, [&](int64_t index, int worker) {
    if (context.cancelled()) return;
    functions.shares(range_of(index, worker), {.lse = floats + layout.lse,
                                               .column_sums = args.column_sums,
                                               .offset_sums = args.offset_sums,
                                               .row_stride = args.sums_row_stride,
                                               .carry = floats + layout.carry + index * all_rows});
  });
  if (!context.cancelled()) add_carries(args, floats + layout.carry, length);
}

bool any(const VerticalSlashArgs&) { return true; }

#if defined(__x86_64__)
void run_avx2(const CpuContext& context, const VerticalSlashArgs& args) {
  run(context, args, {.maxima = estimate_maxima_avx2, .shares = estimate_shares_avx2});
}
void run_avx512(const CpuContext& context, const VerticalSlashArgs& args) {
  run(context, args, {.maxima = estimate_maxima_avx512, .shares = estimate_shares_avx512});
}
#endif

constexpr VerticalSlashImplementation kTable[] = {
    {"vertical_slash_ref", Isa::kScalar, any, 0, run_vertical_slash_reference},
#if defined(__x86_64__)
    {"vertical_slash_avx2", Isa::kAvx2, any, 1, run_avx2},
    {"vertical_slash_avx512", Isa::kAvx512, any, 2, run_avx512},
#endif
};

}  // namespace

size_t vertical_slash_workspace_bytes(int heads, int head_dim, int64_t max_length, int threads) {
  return static_cast<size_t>(Layout(heads, head_dim, max_length, threads).size) * sizeof(float);
}

void run_vertical_slash(const CpuContext& context, const VerticalSlashArgs& args, Isa at_most) {
  if (args.pages.dtype == DType::kF16)
    throw Error(ErrorCode::kInvalidArgument, "expected pages in f32 or bf16, found f16",
                "run_vertical_slash");
  find<VerticalSlashArgs, Run>(kTable, args, at_most).run(context, args);
}

}  // namespace kvasir::kernels
