#pragma once
// What the CPU can do, read once from cpuid and the operating system.

#include <string>

namespace kvasir {

// Instruction sets that kernels are written for, in ascending order of preference.
enum class Isa { kScalar, kAvx2, kAvx512, kAvx512Bf16 };

const char* isa_name(Isa isa);  // "scalar", "avx2", "avx512", "avx512_bf16"

// Whether this CPU (and the operating system's register saving) runs code compiled for `isa`.
// kAvx2 includes FMA and F16C; kAvx512 means F, BW, DQ, VL.
bool cpu_supports(Isa isa);

// The best supported instruction set.
Isa best_isa();

std::string cpu_model_name();

}  // namespace kvasir
