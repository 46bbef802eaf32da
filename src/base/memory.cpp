#include "base/memory.h"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "kvasir/error.h"

namespace kvasir {
namespace {

int64_t read_number(const char* path) {
  std::ifstream file(path);
  int64_t number = -1;
  return file >> number ? number : -1;
}

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  // A whole number of huge pages at a huge page's boundary, cut out of a larger reservation.
  constexpr size_t kHuge = size_t{2} << 20;
  const size_t reserved = bytes + kHuge;
  void* raw = ::mmap(nullptr, reserved, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw == MAP_FAILED)
    throw Error(ErrorCode::kResourceExhausted, "the system refuses to reserve " +
                                                   std::to_string(bytes >> 20) +
                                                   " MiB of memory; lower --context");
  const auto begin = reinterpret_cast<uintptr_t>(raw);
  const uintptr_t aligned = (begin + kHuge - 1) / kHuge * kHuge;
  if (aligned > begin) ::munmap(raw, aligned - begin);
  const uintptr_t end = (aligned + bytes + 4095) / 4096 * 4096;
  if (begin + reserved > end) ::munmap(reinterpret_cast<void*>(end), begin + reserved - end);
  data_ = reinterpret_cast<std::byte*>(aligned);
  if (bytes >= kHuge) ::madvise(data_, bytes, MADV_HUGEPAGE);
}

Memory::~Memory() {
  if (data_) ::munmap(data_, (bytes_ + 4095) / 4096 * 4096);
}

int64_t available_memory() {
  int64_t available = std::numeric_limits<int64_t>::max();
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (int64_t kib; file >> key >> kib; std::getline(file, unit))
    if (key == "MemAvailable:") available = kib * 1024;
  const int64_t limit = read_number("/sys/fs/cgroup/memory.max");
  const int64_t used = read_number("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) available = std::min(available, std::max<int64_t>(0, limit - used));
  return available;
}

int64_t peak_resident_memory() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace kvasir
