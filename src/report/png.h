#pragma once
// PNG files.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvasir::report {

struct Rgba {
  uint8_t red = 0, green = 0, blue = 0, alpha = 0xff;
};

struct IndexedImage {
  int width = 0, height = 0;    // at least 1
  std::vector<Rgba> palette;    // 256 at most
  std::vector<uint8_t> pixels;  // [height][width], places in the palette
};

// The bytes of a file. Throws Error: kInternal with libpng's reason.
std::string png_file(const IndexedImage& image);

std::string base64(std::string_view bytes);

}  // namespace kvasir::report
