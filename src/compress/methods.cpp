#include "compress/methods.h"

namespace kvasir::compress {
namespace {

constexpr Method kMethods[] = {
    {.name = "plain",
     .description = "keys and values as computed",
     .capabilities = {.chunked_prefill = true, .prefix_reuse = true, .batching = true, .gpu = true},
     .options = {}},
};

}  // namespace

std::span<const Method> methods() { return kMethods; }

}  // namespace kvasir::compress
