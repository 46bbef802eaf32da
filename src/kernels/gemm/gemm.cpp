#include "kernels/gemm/gemm.h"

#include <algorithm>

#include "kernels/gemm/gemm_tile.h"
#include "kernels/registry.h"

namespace kvasir::kernels {
namespace {

bool is_bf16(const PackedDesc& desc) { return desc.dtype == DType::kBF16; }
bool is_f32(const PackedDesc& desc) { return desc.dtype == DType::kF32; }

using GemmImplementation = Implementation<PackedDesc, GemmCode>;

constexpr GemmCode kAmxCode = {.run = gemm_tile_bf16_amx,
                               .row_block = kAmxRowsPerBlock,
                               .max_rows = kAmxMaxTileRows,
                               .max_panels = kAmxMaxPanels,
                               .stream_blocks = 2,
                               .panel_cost = 2,
                               .rows_cost = 1};

constexpr GemmImplementation kTable[] = {
    {"gemm_ref", Isa::kScalar, is_bf16, 0, {gemm_tile_bf16_ref}},
    {"gemm_ref", Isa::kScalar, is_f32, 0, {gemm_tile_f32_ref}},
#if defined(__x86_64__)
    {"gemm_avx2", Isa::kAvx2, is_bf16, 1, {gemm_tile_bf16_avx2}},
    {"gemm_avx2", Isa::kAvx2, is_f32, 1, {gemm_tile_f32_avx2}},
    {"gemm_avx512", Isa::kAvx512, is_bf16, 2, {gemm_tile_bf16_avx512}},
    {"gemm_avx512", Isa::kAvx512, is_f32, 2, {gemm_tile_f32_avx512}},
    {"gemm_avx512bf16", Isa::kAvx512Bf16, is_bf16, 3, {gemm_tile_bf16_avx512bf16}},
    {"gemm_amx", Isa::kAmxBf16, is_bf16, 4, kAmxCode},
#endif
};

const GemmImplementation& implementation(const PackedDesc& desc) {
  return find<PackedDesc, GemmCode>(kTable, desc, desc.isa);
}

void require(bool condition, const char* message) {
  if (!condition) throw Error(ErrorCode::kInvalidArgument, message, "run_gemm");
}

void check(const GemmArgs& args) {
  const PackedDesc& desc = args.desc;
  require(desc.dtype != DType::kF16, "packed weights are f32 or bf16, found f16");
  require(args.m >= 0 && desc.n >= 0 && desc.k >= 0, "expected sizes >= 0");
  require((args.epilogue == Epilogue::kSiluMul) == (desc.layout == WeightLayout::kGatePair),
          "silu(gate) * up and weights packed as a gate pair belong together; found one without "
          "the other");
  require(args.c_dtype == DType::kF32 ||
              (args.c_dtype == DType::kBF16 && args.epilogue != Epilogue::kAdd),
          "expected C in f32, or in bf16 where nothing is added to it");
}

int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }

// Outputs of one panel and of the whole product, per row of C.
int64_t panel_columns(const PackedDesc& desc) {
  return desc.layout == WeightLayout::kGatePair ? kPairOutputs : kPanelOutputs;
}
int64_t output_columns(const PackedDesc& desc) {
  return desc.layout == WeightLayout::kGatePair ? desc.n / 2 : desc.n;
}

// A product is cut into row_parts x panel_parts tasks.
struct Split {
  int64_t row_parts = 1;
  int64_t panel_parts = 1;
};

// Up to this many bytes of weights and rows are faster done than shared.
constexpr int64_t kInlineBytes = 48 << 10;
constexpr int64_t kStreamTaskBytes = 128 << 10;
constexpr int64_t kStreamTasksPerThread = 16;

// Few rows: a stream over the weights, each panel read once for all rows.
Split split_stream(int64_t row_blocks, int64_t panels, int64_t panel_bytes, int threads) {
  const int64_t bytes = panels * panel_bytes;
  if (bytes * row_blocks <= kInlineBytes) return {1, 1};
  const int64_t parts = std::clamp<int64_t>(ceil_div(bytes, kStreamTaskBytes), threads,
                                            kStreamTasksPerThread * threads);
  return {1, std::min(panels, ceil_div(parts, threads) * threads)};
}

// Many rows: the cut with the least estimated time. Units: one row block times one panel.
Split split_blocks(const GemmCode& code, int64_t row_blocks, int64_t panels, int threads) {
  constexpr double kTailCost = 0.25;  // of a task: threads do not end together
  constexpr int64_t kPanelParts[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
  const int64_t least = ceil_div(row_blocks, code.max_rows / code.row_block);
  const int64_t most = std::min(row_blocks, least + 2 * threads);
  Split best;
  double best_cost = 0;
  for (int64_t row_parts = least; row_parts <= most; ++row_parts) {
    for (const int64_t candidate : kPanelParts) {
      const int64_t panel_parts = std::min(candidate, panels);
      const int64_t tasks = row_parts * panel_parts;
      const auto task_blocks = static_cast<double>(ceil_div(row_blocks, row_parts));
      const auto task_panels = static_cast<double>(ceil_div(panels, panel_parts));
      const auto rounds = static_cast<double>(ceil_div(tasks, threads));
      const double largest =
          task_blocks * task_panels + code.panel_cost * task_panels + code.rows_cost * task_blocks;
      const double cost = (rounds + kTailCost) * largest;
      if (best_cost == 0 || cost < best_cost) {
        best_cost = cost;
        best = {row_parts, panel_parts};
      }
      if (panel_parts == panels) break;
    }
  }
  return best;
}

Split split(const GemmCode& code, const GemmArgs& args, int64_t row_blocks, int64_t panels,
            int64_t panel_bytes, int threads) {
  if (row_blocks <= code.stream_blocks) {
    const Split stream = split_stream(row_blocks, panels, panel_bytes, threads);
    if (stream.panel_parts == 1 || panels >= threads) return stream;
  }
  if (args.m * args.desc.n * args.desc.k <= int64_t{1} << 20)
    return {ceil_div(row_blocks, code.max_rows / code.row_block), 1};
  return split_blocks(code, row_blocks, panels, threads);
}

void run(const CpuContext& context, const GemmArgs& args, const GemmCode& code) {
  const PackedDesc& desc = args.desc;
  const auto a_bytes = static_cast<int64_t>(dtype_bytes(desc.dtype));
  const auto c_bytes = static_cast<int64_t>(dtype_bytes(args.c_dtype));
  const int64_t columns = output_columns(desc);
  const int64_t step = panel_columns(desc);
  const int64_t panels = ceil_div(columns, step);
  if (args.m == 0 || panels == 0) return;
  const int64_t steps = desc.dtype == DType::kBF16 ? ceil_div(desc.k, 2) : desc.k;
  const int64_t panel_bytes = steps * kPanelStepBytes;
  const int64_t row_blocks = ceil_div(args.m, code.row_block);
  const Split parts = split(code, args, row_blocks, panels, panel_bytes, context.pool.size());

  context.pool.parallel(parts.row_parts * parts.panel_parts, [&](int64_t task, int) {
    const int64_t row_part = task / parts.panel_parts;
    const int64_t panel_part = task % parts.panel_parts;
    const int64_t first_row = row_blocks * row_part / parts.row_parts * code.row_block;
    const int64_t last_row =
        std::min(args.m, row_blocks * (row_part + 1) / parts.row_parts * code.row_block);
    const int64_t last_panel = panels * (panel_part + 1) / parts.panel_parts;
    int64_t panel = panels * panel_part / parts.panel_parts;
    while (panel < last_panel && !context.cancelled()) {
      const int64_t count = std::min<int64_t>(code.max_panels, last_panel - panel);
      const int64_t column = panel * step;
      code.run(
          {.a = static_cast<const std::byte*>(args.a) + first_row * args.a_row_stride * a_bytes,
           .a_row_bytes = args.a_row_stride * a_bytes,
           .rows = last_row - first_row,
           .k = desc.k,
           .weight = args.weight + panel * panel_bytes,
           .panels = static_cast<int>(count),
           .panel_bytes = panel_bytes,
           .bias = args.bias ? args.bias + column : nullptr,
           .up_bias = args.bias && args.epilogue == Epilogue::kSiluMul
                          ? args.bias + columns + column
                          : nullptr,
           .c =
               static_cast<std::byte*>(args.c) + (first_row * args.c_row_stride + column) * c_bytes,
           .c_row_bytes = args.c_row_stride * c_bytes,
           .columns = std::min(count * step, columns - column),
           .epilogue = args.epilogue,
           .c_dtype = args.c_dtype});
      panel += count;
    }
  });
}

}  // namespace

void run_gemm(const CpuContext& context, const GemmArgs& args) {
  check(args);
  run(context, args, implementation(args.desc).run);
}

void run_gemm_reference(const CpuContext& context, const GemmArgs& args) {
  check(args);
  run(context, args, {is_bf16(args.desc) ? gemm_tile_bf16_ref : gemm_tile_f32_ref});
}

std::string_view gemm_implementation(const PackedDesc& desc) { return implementation(desc).name; }

}  // namespace kvasir::kernels
