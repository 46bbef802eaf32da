#include "report/png.h"

#include <gtest/gtest.h>
#include <png.h>

#include <random>

#include "kvasir/error.h"

namespace kvasir::report {
namespace {

std::vector<uint8_t> decoded(const std::string& file, int width, int height) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  EXPECT_TRUE(png_image_begin_read_from_memory(&png, file.data(), file.size())) << png.message;
  EXPECT_EQ(static_cast<int>(png.width), width);
  EXPECT_EQ(static_cast<int>(png.height), height);
  png.format = PNG_FORMAT_RGBA;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(png));
  EXPECT_TRUE(png_image_finish_read(&png, nullptr, pixels.data(), 0, nullptr)) << png.message;
  return pixels;
}

TEST(Png, PixelsComeBack) {
  std::mt19937 random(1);
  for (const int colours : {1, 2, 3, 16, 17, 256}) {
    IndexedImage image{.width = 37, .height = 11};
    for (int i = 0; i < colours; ++i)
      image.palette.push_back({static_cast<uint8_t>(random()), static_cast<uint8_t>(random()),
                               static_cast<uint8_t>(random()), static_cast<uint8_t>(i % 2 * 255)});
    for (int i = 0; i < image.width * image.height; ++i)
      image.pixels.push_back(static_cast<uint8_t>(random() % colours));
    const std::string file = png_file(image);
    EXPECT_EQ(file, png_file(image));
    const auto pixels = decoded(file, image.width, image.height);
    ASSERT_EQ(pixels.size(), 4 * image.pixels.size());
    for (size_t i = 0; i < image.pixels.size(); ++i) {
      const Rgba& expected = image.palette[image.pixels[i]];
      ASSERT_EQ(pixels[4 * i + 3], expected.alpha) << colours << " colours, pixel " << i;
      if (expected.alpha == 0) continue;
      ASSERT_EQ(pixels[4 * i], expected.red);
      ASSERT_EQ(pixels[4 * i + 1], expected.green);
      ASSERT_EQ(pixels[4 * i + 2], expected.blue);
    }
  }
}

TEST(Png, AnImageIsWhole) {
  EXPECT_THROW(png_file({}), Error);
  EXPECT_THROW(png_file({.width = 2, .height = 2, .palette = {{}}, .pixels = {0}}), Error);
}

TEST(Png, Base64) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

}  // namespace
}  // namespace kvasir::report
