#include "report/png.h"

#include <png.h>

#include "base/check.h"

namespace kvasir::report {

std::string png_file(const IndexedImage& image) {
  KVASIR_CHECK(image.width > 0 && image.height > 0 && image.palette.size() <= 256 &&
               image.pixels.size() == static_cast<size_t>(image.width) * image.height);
  static_assert(sizeof(Rgba) == 4);
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = PNG_FORMAT_RGBA_COLORMAP;
  png.colormap_entries = static_cast<png_uint_32>(image.palette.size());
  std::string bytes(PNG_IMAGE_PNG_SIZE_MAX(png), '\0');
  png_alloc_size_t size = bytes.size();
  const int is_written = png_image_write_to_memory(&png, bytes.data(), &size, 0,
                                                   image.pixels.data(), 0, image.palette.data());
  if (!is_written) throw Error(ErrorCode::kInternal, png.message, "writing a PNG");
  bytes.resize(size);
  return bytes;
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k)
      group = group << 8 | (i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k)
      text += i + k > bytes.size() ? '=' : kDigits[group >> (18 - 6 * k) & 63];
  }
  return text;
}

}  // namespace kvasir::report
