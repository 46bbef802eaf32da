#pragma once
// Files: read-only mappings, whole reads, and writes that are whole or not at all.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace kvasir {

// A read-only memory mapping of a whole regular file. Movable. Empty files map to an empty span.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Drops the pages that lie wholly inside [begin, begin + size) from this process (they stay in
  // the page cache), so that a converted tensor does not count twice in resident memory.
  void drop(size_t begin, size_t size) const;

 private:
  MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {}
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// All bytes of a file, pipe or device up to its end. Errors: kNotFound, kInvalidArgument (a
// directory), kIo. "-" is not special here.
Result<std::string> read_file(const std::filesystem::path& path);
// What is left of standard input. Errors: kIo.
Result<std::string> read_standard_input();

// Writes to a temporary file beside `path`, syncs it and renames it over `path`: readers see the
// old content or the new, never a part. Errors: kIo, with the path and the system's reason.
Result<void> write_file(const std::filesystem::path& path, std::string_view content);

// The same for content produced in pieces. Without commit() the temporary file is removed. Errors:
// kIo; kInvalidArgument where something else than a regular file is there already.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::filesystem::path& path);
  AtomicFile(AtomicFile&& other) noexcept;
  ~AtomicFile();
  Result<void> write(std::span<const std::byte> bytes);
  Result<void> write(std::string_view text);
  Result<void> commit();

 private:
  AtomicFile() = default;
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

}  // namespace kvasir
