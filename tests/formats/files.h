#pragma once
// Temporary folders and hand-made safetensors for the tests of this room.

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "base/file.h"

namespace kvasir::formats {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    static int counter = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("kvasir-formats-" + std::to_string(::getpid()) + "-" + std::to_string(counter++));
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path write(const std::string& name, const std::string& content) const {
    write_file(path_ / name, content).value();
    return path_ / name;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A file of this header and `data_bytes` bytes of data; the length in front says the truth unless
// `claimed_length` lies.
inline std::string safetensors_bytes(const std::string& header, size_t data_bytes,
                                     int64_t claimed_length = -1) {
  const uint64_t length =
      claimed_length >= 0 ? static_cast<uint64_t>(claimed_length) : header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  bytes += header;
  for (size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

}  // namespace kvasir::formats
