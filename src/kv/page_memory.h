#pragma once
// Where a pool's pages lie: in host memory, or on a device. The manager hands out and counts
// blocks; it never looks into them.

#include <cstddef>
#include <functional>
#include <memory>

namespace kvasir::kv {

class PageMemory {
 public:
  virtual ~PageMemory() = default;
  virtual std::byte* data() const = 0;  // 64-byte aligned
  // Copies `rows` pieces of `bytes` bytes, `pitch` bytes apart, from offset `from` to offset `to`;
  // the ranges do not overlap. Whatever uses the memory afterwards sees the copy.
  virtual void copy(size_t from, size_t to, size_t pitch, size_t bytes, size_t rows) = 0;
};

// Allocates memory for pages, in bytes. Throws kResourceExhausted where there is not as much.
using PageMemoryFactory = std::function<std::unique_ptr<PageMemory>(size_t bytes)>;

// Reserved address space, touched as blocks come into use.
std::unique_ptr<PageMemory> host_page_memory(size_t bytes);

}  // namespace kvasir::kv
