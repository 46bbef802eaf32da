#pragma once
// C = A * W^T (+ bias) with a weight matrix packed once for the CPU at hand. One format serves
// prefill (many rows: register-blocked) and decode (one or a few rows: a stream over the weights).
//
// Every output element is accumulated in f32 over k in ascending order by the same chain of
// operations whatever the number of rows, threads or columns, so a row's result does not depend on
// its batch.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "kernels/context.h"

namespace kvasir::kernels {

// A row-major piece [n, k] of a weight as it lies on disk (any alignment).
struct WeightBlock {
  const std::byte* data = nullptr;
  DType dtype = DType::kBF16;  // kF32, kBF16 or kF16
  int64_t n = 0;
};

enum class WeightLayout : uint8_t {
  kPlain,     // the blocks stacked along n: n = sum of the blocks' n
  kGatePair,  // exactly two blocks of equal n (gate, up), interleaved for kSiluMul
};

// How a packed weight is laid out; depends on the shape, the dtype and the instruction set. `dtype`
// is that of the packed weight and of the activations that it multiplies: kBF16 or kF32. Where the
// CPU has no bf16 arithmetic, bf16 weights stay bf16 in memory and are widened in registers.
struct PackedDesc {
  DType dtype = DType::kBF16;
  WeightLayout layout = WeightLayout::kPlain;
  int64_t n = 0;  // rows of all blocks together
  int64_t k = 0;
  Isa isa = Isa::kScalar;  // the instruction set that it was packed for
};

// Bytes that a packed weight takes (64-byte aligned start); equals n * k * dtype up to padding of n
// to a panel and k to a pair.
size_t packed_weight_bytes(const PackedDesc& desc);

// A weight to be packed: the blocks, into `out`.
struct PackJob {
  PackedDesc desc;
  std::span<const WeightBlock> blocks;
  std::byte* out = nullptr;
};

// Packs the weights side by side over context.pool. Throws kInvalidArgument where the blocks of one
// do not sum to its desc.n.
void pack_weights(const CpuContext& context, std::span<const PackJob> jobs);
// One weight alone.
void pack_weight(const CpuContext& context, const PackedDesc& desc,
                 std::span<const WeightBlock> blocks, std::byte* out);

// Reads row `row` of a kPlain packed weight back as f32 [k] (embedding look-up of tied weights).
void unpack_weight_row(const PackedDesc& desc, const std::byte* packed, int64_t row, float* out);

enum class Epilogue : uint8_t {
  kStore,    // C = A W^T + bias
  kAdd,      // C += A W^T + bias (C f32: the residual stream)
  kSiluMul,  // kGatePair only: C [m, n/2] = silu(A Wg^T + bg) * (A Wu^T + bu)
};

struct GemmArgs {
  const void* a = nullptr;   // [m, k] in desc.dtype
  int64_t a_row_stride = 0;  // elements
  int64_t m = 0;
  PackedDesc desc;
  const std::byte* weight = nullptr;  // packed
  const float* bias = nullptr;        // [n] f32 (kSiluMul: gate's, then up's), or null
  Epilogue epilogue = Epilogue::kStore;
  void* c = nullptr;            // [m, n] (kSiluMul: [m, n/2]) in c_dtype
  DType c_dtype = DType::kF32;  // kF32 or kBF16; kAdd needs kF32
  int64_t c_row_stride = 0;     // elements
};

// Polls context.cancel between panels.
void run_gemm(const CpuContext& context, const GemmArgs& args);

// Scalar definition of right, on the same packed data.
void run_gemm_reference(const CpuContext& context, const GemmArgs& args);

// "gemm_avx512bf16": the implementation for a packed weight.
std::string_view gemm_implementation(const PackedDesc& desc);

}  // namespace kvasir::kernels
