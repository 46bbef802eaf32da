#include "kv/page_memory.h"

#include <cstring>

#include "base/memory.h"

namespace kvasir::kv {
namespace {

class HostPageMemory final : public PageMemory {
 public:
  explicit HostPageMemory(size_t bytes) : memory_(bytes) {}
  std::byte* data() const override { return memory_.data(); }
  void copy(size_t from, size_t to, size_t pitch, size_t bytes, size_t rows) override {
    for (size_t row = 0; row < rows; ++row)
      std::memcpy(data() + to + row * pitch, data() + from + row * pitch, bytes);
  }

 private:
  Memory memory_;
};

}  // namespace

std::unique_ptr<PageMemory> host_page_memory(size_t bytes) {
  return std::make_unique<HostPageMemory>(bytes);
}

}  // namespace kvasir::kv
