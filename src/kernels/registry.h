#pragma once
// Picks one implementation of an op. Every op folder has one table of implementations; the scalar
// reference is in it and matches everything.

#include <span>
#include <string_view>

#include "base/check.h"
#include "base/cpu_info.h"

namespace kvasir::kernels {

// `Desc` describes a problem (shapes, dtypes); `Function` is the op's run function.
template <class Desc, class Function>
struct Implementation {
  std::string_view name;  // "<op>_<isa>"
  Isa isa;
  bool (*supports)(const Desc& desc);
  int priority;  // the highest supported one wins
  Function run;
};

// The implementation of highest priority that this CPU runs and that supports `desc`. `at_most`
// restricts the instruction set (tests and benchmarks walk through all of them).
template <class Desc, class Function>
const Implementation<Desc, Function>& find(std::span<const Implementation<Desc, Function>> table,
                                           const Desc& desc, Isa at_most = kEveryIsa) {
  const Implementation<Desc, Function>* best = nullptr;
  for (const auto& candidate : table) {
    if (candidate.isa > at_most || !cpu_supports(candidate.isa) || !candidate.supports(desc))
      continue;
    if (!best || candidate.priority > best->priority) best = &candidate;
  }
  KVASIR_CHECK(best != nullptr, "no implementation; the scalar reference should match everything");
  return *best;
}

}  // namespace kvasir::kernels
