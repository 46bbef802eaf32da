#include "report/plan_map.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <vector>

#include "report/style.h"
#include "report/text.h"

namespace kvasir::report {
namespace {

Rgba colour_of(const Colour& colour, double opacity, bool is_opaque) {
  const auto mixed = [&](int value) {
    return static_cast<uint8_t>(std::lround(is_opaque ? 255 + opacity * (value - 255) : value));
  };
  return {mixed(colour.red), mixed(colour.green), mixed(colour.blue),
          static_cast<uint8_t>(is_opaque ? 255 : std::lround(255 * opacity))};
}

// Runs of one level in a row, grown down over rows that have the same run.
struct Block {
  int left, right, top, level;
};

class BlockWriter {
 public:
  explicit BlockWriter(const CoverageMap& map) : map_(map) {}

  std::string elements(double size) {
    std::vector<Block> open;
    for (int row = 0; row <= map_.pixels(); ++row) open = next_row(row, open);
    std::string text = fmt::format(
        "<g transform=\"scale({:.6g})\" shape-rendering=\"crispEdges\">\n", size / map_.pixels());
    SvgWriter svg;
    for (int level = 1; level < kLevels; ++level) {
      const std::string& path = paths_[static_cast<size_t>(level)];
      if (path.empty()) continue;
      if (level == 1)
        svg.path(path, "k-none");
      else
        svg.path(path, "k-c",
                 fmt::format("fill-opacity=\"{}\"", coordinate(opacity_of_level(level))));
    }
    return text + svg.take() + "</g>\n";
  }

 private:
  // Blocks that reach into `row`; those that end above it are written.
  std::vector<Block> next_row(int row, const std::vector<Block>& above) {
    std::vector<Block> here;
    size_t next = 0;
    const auto close_until = [&](int left) {
      for (; next < above.size() && above[next].left < left; ++next) write(above[next], row);
    };
    for (int left = 0; row < map_.pixels() && left <= row;) {
      const int level = level_of(map_, row, left);
      int right = left + 1;
      while (right <= row && level_of(map_, row, right) == level) ++right;
      close_until(left);
      if (next < above.size() && above[next].left == left && above[next].right == right &&
          above[next].level == level)
        here.push_back(above[next++]);
      else
        here.push_back({left, right, row, level});
      left = right;
    }
    close_until(map_.pixels());
    return here;
  }

  void write(const Block& block, int bottom) {
    paths_[static_cast<size_t>(block.level)] +=
        fmt::format("M{} {}h{}v{}h-{}z", block.left, block.top, block.right - block.left,
                    bottom - block.top, block.right - block.left);
  }

  const CoverageMap& map_;
  std::array<std::string, kLevels> paths_;
};

}  // namespace

int level_of_share(double share) {
  if (!(share > 0)) return 1;
  return 2 + static_cast<int>(std::lround(std::sqrt(std::min(share, 1.0)) * (kLevels - 3)));
}

int level_of(const CoverageMap& map, int row, int column) {
  return map.is_causal(row, column) ? level_of_share(map.share(row, column)) : 0;
}

double opacity_of_level(int level) { return 0.25 + 0.75 * (level - 2) / (kLevels - 3); }

IndexedImage image_of(const CoverageMap& map, bool is_opaque) {
  IndexedImage image{.width = map.pixels(), .height = map.pixels()};
  image.palette = {colour_of(kCausal, 0, is_opaque), colour_of(kCausal, kCausalOpacity, is_opaque)};
  for (int level = 2; level < kLevels; ++level)
    image.palette.push_back(colour_of(kCoverage, opacity_of_level(level), is_opaque));
  image.pixels.reserve(static_cast<size_t>(image.width) * static_cast<size_t>(image.height));
  for (int row = 0; row < map.pixels(); ++row)
    for (int column = 0; column < map.pixels(); ++column)
      image.pixels.push_back(static_cast<uint8_t>(level_of(map, row, column)));
  return image;
}

std::string image_element(const CoverageMap& map, double size) {
  return fmt::format(
      "<image width=\"{0}\" height=\"{0}\" style=\"image-rendering:pixelated\" "
      "href=\"data:image/png;base64,{1}\"/>\n",
      coordinate(size), base64(png_file(image_of(map, false))));
}

std::string block_element(const CoverageMap& map, double size) {
  return BlockWriter(map).elements(size);
}

std::string map_element(const CoverageMap& map, double size) {
  std::string blocks = block_element(map, size), image = image_element(map, size);
  return image.size() < blocks.size() ? image : blocks;
}

double draw_shades(SvgWriter& svg, double left, double top) {
  double x = left;
  const auto swatch = [&](std::string_view classes, const std::string& attributes,
                          std::string_view text) {
    svg.rect(x, top, 12, 12, classes, attributes);
    svg.text(x + 17, top + 10, text, "k-m");
    x += 17 + text_width(text, kFontSize) + 12;
  };
  swatch("k-none", {}, "not computed");
  for (const double share : {0.01, 0.1, 0.5, 1.0})
    swatch("k-c",
           fmt::format("fill-opacity=\"{}\"", coordinate(opacity_of_level(level_of_share(share)))),
           share_text(share));
  svg.text(x - 4, top + 10, "of a pixel's pairs", "k-m");
  return 22;
}

}  // namespace kvasir::report
