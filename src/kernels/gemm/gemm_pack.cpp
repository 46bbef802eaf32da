// Packing of weights: checks, cutting into panels, the scalar definition, and the way back.

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/gemm/gemm_tile.h"
#include "kernels/registry.h"

namespace kvasir::kernels {
namespace {

using PackImplementation = Implementation<PackedDesc, PackFunction>;

bool any(const PackedDesc&) { return true; }

constexpr PackImplementation kTable[] = {
    {"pack_ref", Isa::kScalar, any, 0, pack_panel_ref},
#if defined(__x86_64__)
    {"pack_avx2", Isa::kAvx2, any, 1, pack_panel_avx2},
    {"pack_avx512", Isa::kAvx512, any, 2, pack_panel_avx512},
#endif
};

int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }

int64_t steps_of(const PackedDesc& desc) {
  return desc.dtype == DType::kBF16 ? ceil_div(desc.k, 2) : desc.k;
}

int64_t panels_of(const PackedDesc& desc) {
  return desc.layout == WeightLayout::kGatePair ? ceil_div(desc.n / 2, kPairOutputs)
                                                : ceil_div(desc.n, kPanelOutputs);
}

template <class T>
T read(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

void check(const PackedDesc& desc, std::span<const WeightBlock> blocks) {
  const auto require = [](bool condition, const std::string& message) {
    if (!condition) throw Error(ErrorCode::kInvalidArgument, message, "pack_weight");
  };
  require(desc.dtype != DType::kF16, "packed weights are f32 or bf16, found f16");
  int64_t rows = 0;
  for (const auto& block : blocks) {
    require(block.n >= 0, "expected blocks of n >= 0, found " + std::to_string(block.n));
    rows += block.n;
  }
  require(rows == desc.n, "expected blocks of " + std::to_string(desc.n) +
                              " rows together, found " + std::to_string(rows));
  if (desc.layout != WeightLayout::kGatePair) return;
  require(blocks.size() == 2 && blocks[0].n == blocks[1].n,
          "expected a gate and an up block of equal n");
}

// Source rows of one panel; all of one dtype in practice, but blocks may differ.
struct SourceRow {
  const std::byte* data = nullptr;
  DType dtype = DType::kBF16;
};

SourceRow source_row(const PackedDesc& desc, std::span<const WeightBlock> blocks, int64_t panel,
                     int output) {
  int64_t row = panel * kPanelOutputs + output;
  size_t block = 0;
  if (desc.layout == WeightLayout::kGatePair) {
    block = output / kPairOutputs;
    row = panel * kPairOutputs + output % kPairOutputs;
    if (row >= blocks[block].n) return {};
  }
  for (; block < blocks.size(); ++block) {
    const WeightBlock& source = blocks[block];
    if (row < source.n)
      return {source.data + row * desc.k * static_cast<int64_t>(dtype_bytes(source.dtype)),
              source.dtype};
    row -= source.n;
  }
  return {};
}

// Rows [first, 64) of a panel that share a dtype, packed in one go; the others stay null.
void pack(const PackedDesc& desc, std::span<const WeightBlock> blocks, int64_t panel,
          bool streaming, PackFunction pack_panel, std::byte* out) {
  PackPanel args{.target = desc.dtype,
                 .k = desc.k,
                 .streaming = streaming,
                 .panel = out + panel * steps_of(desc) * kPanelStepBytes};
  bool mixed = false;
  bool found = false;
  SourceRow rows[kPanelOutputs];
  for (int i = 0; i < kPanelOutputs; ++i) {
    rows[i] = source_row(desc, blocks, panel, i);
    args.rows[i] = rows[i].data;
    if (!rows[i].data) continue;
    if (!found) args.source = rows[i].dtype;
    mixed |= rows[i].dtype != args.source;
    found = true;
  }
  if (!mixed) return pack_panel(args);
  // A border between blocks of different dtypes, in the middle of a panel: rows in f32.
  std::vector<float> wide(static_cast<size_t>(kPanelOutputs * desc.k));
  for (int i = 0; i < kPanelOutputs; ++i) {
    if (!rows[i].data) continue;
    float* row = wide.data() + i * desc.k;
    for (int64_t j = 0; j < desc.k; ++j) row[j] = read_f32(rows[i].data, rows[i].dtype, j);
    args.rows[i] = reinterpret_cast<const std::byte*>(row);
  }
  args.source = DType::kF32;
  pack_panel(args);
}

}  // namespace

size_t packed_weight_bytes(const PackedDesc& desc) {
  return static_cast<size_t>(panels_of(desc) * steps_of(desc) * kPanelStepBytes);
}

void pack_weights(const CpuContext& context, std::span<const PackJob> jobs) {
  constexpr size_t kStreamingBytes = size_t{4} << 20;
  size_t bytes = 0;
  int64_t panels = 0;
  for (const PackJob& job : jobs) {
    check(job.desc, job.blocks);
    bytes += packed_weight_bytes(job.desc);
    panels += panels_of(job.desc);
  }
  context.pool.parallel(panels, [&](int64_t panel, int) {
    if (context.cancelled()) return;
    const PackJob* job = jobs.data();
    for (; panel >= panels_of(job->desc); ++job) panel -= panels_of(job->desc);
    const bool streaming =
        bytes >= kStreamingBytes && reinterpret_cast<uintptr_t>(job->out) % 64 == 0;
    pack(job->desc, job->blocks, panel, streaming,
         find<PackedDesc, PackFunction>(kTable, job->desc, job->desc.isa).run, job->out);
  });
}

void pack_weight(const CpuContext& context, const PackedDesc& desc,
                 std::span<const WeightBlock> blocks, std::byte* out) {
  const PackJob job{.desc = desc, .blocks = blocks, .out = out};
  pack_weights(context, {&job, 1});
}

void unpack_weight_row(const PackedDesc& desc, const std::byte* packed, int64_t row, float* out) {
  const std::byte* step = packed + row / kPanelOutputs * steps_of(desc) * kPanelStepBytes +
                          row % kPanelOutputs * kStepBytes;
  if (desc.dtype == DType::kF32) {
    for (int64_t i = 0; i < desc.k; ++i, step += kPanelStepBytes) out[i] = read<float>(step);
    return;
  }
  for (int64_t i = 0; i < desc.k; ++i)
    out[i] = bf16_to_f32(read<bf16_t>(step + i / 2 * kPanelStepBytes + i % 2 * 2));
}

void pack_panel_ref(const PackPanel& args) {
  const bool pairs = args.target == DType::kBF16;
  for (int j = 0; j < kPanelOutputs; ++j) {
    const std::byte* row = args.rows[j];
    std::byte* out = args.panel + j * kStepBytes;
    for (int64_t i = 0; i < args.k + (pairs ? args.k % 2 : 0); ++i) {
      const float value = row && i < args.k ? read_f32(row, args.source, i) : 0.0f;
      if (!pairs) {
        std::memcpy(out + i * kPanelStepBytes, &value, sizeof(value));
        continue;
      }
      const bf16_t narrow = f32_to_bf16(value);
      std::memcpy(out + i / 2 * kPanelStepBytes + i % 2 * 2, &narrow, sizeof(narrow));
    }
  }
}

}  // namespace kvasir::kernels
