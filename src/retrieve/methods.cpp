#include "retrieve/methods.h"

namespace kvasir::retrieve {
namespace {

constexpr Method kMethods[] = {
    {.name = "dense",
     .description = "every step attends to all positions before it",
     .capabilities = {.chunked_prefill = true,
                      .prefix_reuse = true,
                      .batching = true,
                      .evicted_kv = true,
                      .deterministic = true,
                      .gpu = true},
     .options = {}},
};

}  // namespace

std::span<const Method> methods() { return kMethods; }

}  // namespace kvasir::retrieve
