#pragma once
// A coverage map as pixels and as elements of a drawing.

#include <string>

#include "report/coverage.h"
#include "report/png.h"
#include "report/svg.h"

namespace kvasir::report {

// Levels of a map: pixels that no query sees, causal ones of which nothing is computed, and from 2
// on more and more. The scale is the root of the share, as single columns and diagonals are few of
// a pixel's pairs.
inline constexpr int kLevels = 16;
int level_of(const CoverageMap& map, int row, int column);
int level_of_share(double share);    // of a causal pixel
double opacity_of_level(int level);  // from 2 on

// One pixel a pixel. `is_opaque`: on white; otherwise what is behind shows through.
IndexedImage image_of(const CoverageMap& map, bool is_opaque);

// A square of `size` at (0, 0), as an image and as rectangles of one level.
std::string image_element(const CoverageMap& map, double size);
std::string block_element(const CoverageMap& map, double size);
// Whichever is shorter.
std::string map_element(const CoverageMap& map, double size);

// What the shades mean, from (left, top) on; returns the height.
double draw_shades(SvgWriter& svg, double left, double top);

}  // namespace kvasir::report
