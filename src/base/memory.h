#pragma once
// One large anonymous memory mapping: zeroed, aligned, touched only as it is used, in huge pages
// where the system has them.

#include <cstddef>
#include <cstdint>
#include <utility>

namespace kvasir {

class Memory {
 public:
  Memory() = default;
  // Throws Error{kResourceExhausted} where the system refuses.
  explicit Memory(size_t bytes);
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Memory();

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

// What the machine could still give to this process, in bytes (MemAvailable, and the limit of the
// control group where one is set).
int64_t available_memory();

// The largest resident size that this process has had, in bytes.
int64_t peak_resident_memory();

}  // namespace kvasir
