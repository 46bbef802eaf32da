#pragma once
// What the fuzz targets share.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace kvasir::fuzz {

// A broken invariant: libFuzzer keeps the input of an abort as a crash.
inline void check(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// The bytes before and behind the first NUL; all and none where there is no NUL.
inline std::pair<std::string_view, std::string_view> halves(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t nul = bytes.find('\0');
  if (nul == std::string_view::npos) return {bytes, {}};
  return {bytes.substr(0, nul), bytes.substr(nul + 1)};
}

}  // namespace kvasir::fuzz
