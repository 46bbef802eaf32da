#pragma once
// The manifest of a corpus: which texts belong to it, and what exactly they are. The texts are the
// files NAME.txt of one folder; NAME is the title.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kvasir {
class ThreadPool;
}

namespace kvasir::data {

struct Title {
  std::string name;
  int64_t bytes = 0;
  std::string sha256;  // 64 hexadecimal digits

  bool operator==(const Title&) const = default;
};

struct Manifest {
  std::vector<Title> titles;  // sorted by name, each once

  // Null where there is none.
  const Title* find(std::string_view name) const;
};

std::filesystem::path title_path(const std::filesystem::path& folder, std::string_view name);

// Told bytes done and all bytes, by the calling thread.
using ByteProgress = std::function<void(int64_t, int64_t)>;

// Of all texts in a folder. Errors: kNotFound (no folder, no texts), kIo.
Result<Manifest> make_manifest(const std::filesystem::path& folder, ThreadPool& pool,
                               const ByteProgress& done = nullptr);
std::string manifest_json(const Manifest& manifest);
// Errors: kMalformed.
Result<Manifest> parse_manifest(std::string_view json, std::string_view origin);
Result<Manifest> load_manifest(const std::filesystem::path& path);

// The folder holds each title as the manifest says; other files do not matter. Errors: kNotFound,
// kMalformed (what differs, of how many), kIo.
Result<void> check_corpus(const Manifest& manifest, const std::filesystem::path& folder,
                          ThreadPool& pool, const ByteProgress& done = nullptr);

}  // namespace kvasir::data
