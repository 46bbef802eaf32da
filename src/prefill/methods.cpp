#include "prefill/methods.h"

namespace kvasir::prefill {
namespace {

constexpr Method kMethods[] = {
    {.name = "dense",
     .description = "every query attends to all positions before it",
     .capabilities = {.chunked_prefill = true, .prefix_reuse = true, .batching = true},
     .options = {}},
};

}  // namespace

std::span<const Method> methods() { return kMethods; }

}  // namespace kvasir::prefill
