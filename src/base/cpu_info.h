#pragma once
// What the CPU can do, read once from cpuid and the operating system.

#include <string>

namespace kvasir {

// Instruction sets that kernels are written for, in ascending order of preference.
enum class Isa { kScalar, kAvx2, kAvx512, kAvx512Bf16, kAmxBf16 };

// A bound that leaves nothing out.
inline constexpr Isa kEveryIsa = Isa::kAmxBf16;

const char* isa_name(Isa isa);  // "scalar", "avx2", "avx512", "avx512_bf16", "amx_bf16"

// Whether this CPU (and the operating system's register saving) runs code compiled for `isa`.
// kAvx2 includes FMA and F16C; kAvx512 means F, BW, DQ, VL; kAmxBf16 adds tiles to kAvx512Bf16. The
// first question for kAmxBf16 asks the system for leave to use tiles, for the whole process.
bool cpu_supports(Isa isa);

// The best supported instruction set.
Isa best_isa();

// Whether products of bf16 are one instruction: then bf16 is the faster format, otherwise f32.
inline bool multiplies_bf16(Isa isa) { return isa >= Isa::kAvx512Bf16; }

std::string cpu_model_name();

}  // namespace kvasir
