#pragma once
// Products of matrix tiles by a warpgroup (wgmma): 64 rows of f32 sums in registers, += A B with
// operands of 16 bits. B lies in shared memory, A there or in registers.
//
// Tiles in shared memory are what a copied box with the 128-byte swizzle leaves: rows of 64
// elements (128 bytes) at multiples of 1024 bytes per 8 rows.
//
// Sums of a thread: element 4 i + e of row lane / 4 + 8 (e / 2) of its warp's 16 rows, column
// 8 i + 2 (lane % 4) + e % 2. As operand A in registers, the 16 columns from 16 k are
// {e = 0, 1 of i = 2 k; e = 2, 3 of 2 k; e = 0, 1 of 2 k + 1; e = 2, 3 of 2 k + 1}, in pairs.

#include <cstdint>
#include <type_traits>

#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/sm90_async.cuh"

namespace kvasir::kernels::sm90 {

// Where an operand begins. Adding to it moves the beginning, in units of 16 bytes.
using Descriptor = uint64_t;

inline constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;

// The reduced dimension runs along the rows of 128 bytes; the next 8 rows lie `step_bytes` further.
__device__ __forceinline__ Descriptor along_rows(const void* tile, uint32_t step_bytes = 1024) {
  return kSwizzle128 | uint64_t{step_bytes >> 4} << 32 | uint64_t{1} << 16 |
         (shared_address(tile) & 0x3ffff) >> 4;
}
// The reduced dimension runs across the rows; the next 64 columns lie `panel_bytes` further.
__device__ __forceinline__ Descriptor across_rows(const void* tile, uint32_t panel_bytes,
                                                  uint32_t step_bytes = 1024) {
  return kSwizzle128 | uint64_t{step_bytes >> 4} << 32 | uint64_t{panel_bytes >> 4} << 16 |
         (shared_address(tile) & 0x3ffff) >> 4;
}

// Before the first product, and whenever registers that products use were written.
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Closes a group of products, which is then waited for as a whole.
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kLeft groups are under way.
template <int kLeft>
__device__ __forceinline__ void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}
// Keeps the compiler from moving uses of the registers over this place: it does not know that
// products write them until they are waited for.
template <int kCount>
__device__ __forceinline__ void pin(float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(values[i])::"memory");
}
template <int kCount>
__device__ __forceinline__ void pin(uint32_t (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(values[i])::"memory");
}

#define KVASIR_REGISTERS_32                                                 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define KVASIR_REGISTERS_64                                                          \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "          \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define KVASIR_8(d, i)                                                                        \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define KVASIR_32(d, i) KVASIR_8(d, i), KVASIR_8(d, i + 8), KVASIR_8(d, i + 16), KVASIR_8(d, i + 24)

// sums (+)= A B', both along rows in shared memory; 64 and 128 columns.
#define KVASIR_PRODUCT_64(type)                                                           \
  asm volatile(                                                                           \
      "{\n"                                                                               \
      ".reg .pred add;\n"                                                                 \
      "setp.ne.b32 add, %34, 0;\n"                                                        \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " KVASIR_REGISTERS_32 \
      ", %32, %33, add, 1, 1, 0, 0;\n"                                                    \
      "}\n"                                                                               \
      : KVASIR_32(sums, 0)                                                                \
      : "l"(a), "l"(b), "n"(kAdd ? 1 : 0))
#define KVASIR_PRODUCT_128(type)                                                           \
  asm volatile(                                                                            \
      "{\n"                                                                                \
      ".reg .pred add;\n"                                                                  \
      "setp.ne.b32 add, %66, 0;\n"                                                         \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " KVASIR_REGISTERS_64 \
      ", %64, %65, add, 1, 1, 0, 0;\n"                                                     \
      "}\n"                                                                                \
      : KVASIR_32(sums, 0), KVASIR_32(sums, 32)                                            \
      : "l"(a), "l"(b), "n"(kAdd ? 1 : 0))
template <class T, bool kAdd>
__device__ __forceinline__ void multiply_rows(float (&sums)[64], Descriptor a, Descriptor b) {
  if constexpr (std::is_same_v<T, bfloat16>)
    KVASIR_PRODUCT_128("bf16");
  else
    KVASIR_PRODUCT_128("f16");
}
template <class T, bool kAdd>
__device__ __forceinline__ void multiply_rows(float (&sums)[32], Descriptor a, Descriptor b) {
  if constexpr (std::is_same_v<T, bfloat16>)
    KVASIR_PRODUCT_64("bf16");
  else
    KVASIR_PRODUCT_64("f16");
}
#undef KVASIR_PRODUCT_64
#undef KVASIR_PRODUCT_128

// sums += A B, A in registers (4 from `a`), B across rows; 64 and 128 columns.
#define KVASIR_PRODUCT_64(type)                                                           \
  asm volatile(                                                                           \
      "{\n"                                                                               \
      ".reg .pred add;\n"                                                                 \
      "setp.eq.b32 add, 0, 0;\n"                                                          \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " KVASIR_REGISTERS_32 \
      ", {%32, %33, %34, %35}, %36, add, 1, 1, 1;\n"                                      \
      "}\n"                                                                               \
      : KVASIR_32(sums, 0)                                                                \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define KVASIR_PRODUCT_128(type)                                                           \
  asm volatile(                                                                            \
      "{\n"                                                                                \
      ".reg .pred add;\n"                                                                  \
      "setp.eq.b32 add, 0, 0;\n"                                                           \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " KVASIR_REGISTERS_64 \
      ", {%64, %65, %66, %67}, %68, add, 1, 1, 1;\n"                                       \
      "}\n"                                                                                \
      : KVASIR_32(sums, 0), KVASIR_32(sums, 32)                                            \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
template <class T>
__device__ __forceinline__ void multiply_columns(float (&sums)[32], const uint32_t* a,
                                                 Descriptor b) {
  if constexpr (std::is_same_v<T, bfloat16>)
    KVASIR_PRODUCT_64("bf16");
  else
    KVASIR_PRODUCT_64("f16");
}
template <class T>
__device__ __forceinline__ void multiply_columns(float (&sums)[64], const uint32_t* a,
                                                 Descriptor b) {
  if constexpr (std::is_same_v<T, bfloat16>)
    KVASIR_PRODUCT_128("bf16");
  else
    KVASIR_PRODUCT_128("f16");
}
#undef KVASIR_PRODUCT_64
#undef KVASIR_PRODUCT_128
#undef KVASIR_32
#undef KVASIR_8
#undef KVASIR_REGISTERS_64
#undef KVASIR_REGISTERS_32

}  // namespace kvasir::kernels::sm90
