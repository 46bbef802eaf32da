#include "compress/methods.h"

#include "compress/options.h"

namespace kvasir::compress {
namespace {

constexpr MethodOption kAppended{
    "appended", "ranked with the rest after each prompt, or kept as in the released code",
    check_appended};
constexpr MethodOption kCapacityOption{"capacity", "entries of each head that stay after a prompt",
                                       check_count};
constexpr MethodOption kWindowOption{"window", "last queries that rank, whose entries stay",
                                     check_window};
constexpr MethodOption kKernelOption{"kernel", "neighbours whose ranks are averaged", check_kernel};
constexpr MethodOption kStreaming[] = {{"init", "first tokens that stay", check_count},
                                       {"local", "last tokens that stay", check_count},
                                       kAppended};
constexpr MethodOption kSnap[] = {kCapacityOption, kWindowOption, kKernelOption, kAppended};
constexpr MethodOption kPyramid[] = {
    kCapacityOption,
    kWindowOption,
    kKernelOption,
    {"beta", "the last layer keeps about this part of the mean", check_count},
    kAppended};

constexpr MethodCapabilities kEviction{
    .chunked_prefill = true, .prefix_reuse = true, .batching = true, .evicted_kv = true};

constexpr Method kMethods[] = {
    {.name = "plain",
     .description = "keys and values as computed",
     .capabilities = {.chunked_prefill = true,
                      .prefix_reuse = true,
                      .batching = true,
                      .deterministic = true,
                      .gpu = true},
     .options = {}},
    {.name = "streamingllm",
     .description = "after a prompt the first and the last tokens stay",
     .capabilities = kEviction,
     .options = kStreaming,
     .scaled = "init=n/256,local=n/8"},
    {.name = "snapkv",
     .description = "after a prompt what its last queries attend to most stays",
     .capabilities = kEviction,
     .options = kSnap,
     .scaled = "capacity=n/8"},
    {.name = "pyramidkv",
     .description = "snapkv with more in lower layers and less in upper ones",
     .capabilities = kEviction,
     .options = kPyramid,
     .scaled = "capacity=n/8"},
};

}  // namespace

std::span<const Method> methods() { return kMethods; }

}  // namespace kvasir::compress
