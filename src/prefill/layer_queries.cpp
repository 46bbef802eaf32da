#include "prefill/layer_queries.h"

#include <algorithm>

namespace kvasir::prefill {
namespace {

constexpr size_t kAlignment = 64;

size_t round_up(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

std::byte* Workspace::bytes(size_t size) {
  size = round_up(size);
  if (blocks_.empty() || blocks_.back().size - blocks_.back().used < size)
    blocks_.push_back(
        {.memory = std::make_unique_for_overwrite<std::byte[]>(size + kAlignment), .size = size});
  Block& block = blocks_.back();
  const auto at = round_up(reinterpret_cast<uintptr_t>(block.memory.get()));
  std::byte* const found = reinterpret_cast<std::byte*>(at) + block.used;
  block.used += size;
  return found;
}

void Workspace::clear() {
  size_t size = 0;
  for (Block& block : blocks_) {
    size += block.size;
    block.used = 0;
  }
  if (blocks_.size() < 2) return;
  // One block for all, so that the next call finds everything in it.
  blocks_.clear();
  blocks_.push_back(
      {.memory = std::make_unique_for_overwrite<std::byte[]>(size + kAlignment), .size = size});
}

}  // namespace kvasir::prefill
