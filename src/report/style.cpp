#include "report/style.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace kvasir::report {
namespace {

double luminance(const Colour& colour) {
  const auto linear = [](int value) {
    const double share = value / 255.0;
    return share <= 0.04045 ? share / 12.92 : std::pow((share + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(colour.red) + 0.7152 * linear(colour.green) + 0.0722 * linear(colour.blue);
}

std::string colours_of(const Theme& theme) {
  std::string sheet = fmt::format(
      ".k-bg{{fill:{}}}.k-t,.k-b{{fill:{}}}.k-e{{stroke:{}}}.k-m{{fill:{}}}.k-g{{stroke:{}}}"
      ".k-a{{stroke:{}}}",
      theme.background.hex(), theme.text.hex(), theme.text.hex(), theme.quiet.hex(),
      theme.grid.hex(), theme.axis.hex());
  for (size_t i = 0; i < theme.series.size(); ++i)
    sheet += fmt::format(".k-s{0}{{stroke:{1}}}.k-f{0}{{fill:{1}}}", i, theme.series[i].hex());
  return sheet;
}

}  // namespace

const Theme kLight{.background = {0xff, 0xff, 0xff},
                   .text = {0x1f, 0x23, 0x28},
                   .quiet = {0x59, 0x63, 0x6e},
                   .grid = {0xdf, 0xe3, 0xe8},
                   .axis = {0x6e, 0x77, 0x81},
                   .series = {{{0x1f, 0x6f, 0xb4},
                               {0xc2, 0x57, 0x1a},
                               {0x2a, 0x8a, 0x5c},
                               {0x8a, 0x4f, 0xbf},
                               {0xb3, 0x26, 0x4b},
                               {0x0f, 0x86, 0x90},
                               {0x86, 0x6a, 0x00},
                               {0x5c, 0x65, 0x70}}}};

const Theme kDark{.background = {0x0d, 0x11, 0x17},
                  .text = {0xe6, 0xed, 0xf3},
                  .quiet = {0x9d, 0xa7, 0xb3},
                  .grid = {0x2a, 0x31, 0x3a},
                  .axis = {0x8b, 0x94, 0x9e},
                  .series = {{{0x6c, 0xb0, 0xf0},
                              {0xf0, 0x96, 0x5a},
                              {0x5f, 0xc7, 0x95},
                              {0xc3, 0x9a, 0xf0},
                              {0xf0, 0x7a, 0x94},
                              {0x52, 0xc5, 0xcf},
                              {0xd6, 0xb5, 0x3c},
                              {0xaa, 0xb4, 0xbf}}}};

std::string Colour::hex() const { return fmt::format("#{:02x}{:02x}{:02x}", red, green, blue); }

double contrast(const Colour& a, const Colour& b) {
  const double x = luminance(a), y = luminance(b);
  return (std::max(x, y) + 0.05) / (std::min(x, y) + 0.05);
}

Colour ink_on(const Colour& background) {
  constexpr Colour kBlack{0x00, 0x00, 0x00}, kWhite{0xff, 0xff, 0xff};
  return contrast(kBlack, background) >= contrast(kWhite, background) ? kBlack : kWhite;
}

Colour sequential(double share) {
  static constexpr Colour kStops[] = {{0xf1, 0xf6, 0xfb}, {0xc4, 0xdc, 0xf0}, {0x87, 0xb8, 0xe0},
                                      {0x43, 0x8c, 0xc7}, {0x16, 0x5f, 0xa0}, {0x08, 0x30, 0x5c}};
  const double place = std::clamp(share, 0.0, 1.0) * (std::size(kStops) - 1);
  const auto below = std::min(static_cast<size_t>(place), std::size(kStops) - 2);
  const double rest = place - static_cast<double>(below);
  const auto mix = [rest](int from, int to) {
    return static_cast<int>(std::lround(from + rest * (to - from)));
  };
  const Colour &from = kStops[below], &to = kStops[below + 1];
  return {mix(from.red, to.red), mix(from.green, to.green), mix(from.blue, to.blue)};
}

std::string style_sheet() {
  return fmt::format(
             ".k-t,.k-m,.k-b{{font-family:system-ui,-apple-system,\"Segoe UI\",\"Liberation "
             "Sans\",\"DejaVu Sans\",Arial,sans-serif;font-size:{}px;stroke:none}}"
             ".k-b{{font-weight:600}}.k-g,.k-a,.k-e{{stroke-width:1;fill:none}}.k-e{{stroke-width:"
             "1.5}}"
             ".k-none{{fill:{};fill-opacity:{}}}.k-c{{fill:{}}}",
             kFontSize, kCausal.hex(), kCausalOpacity, kCoverage.hex()) +
         colours_of(kLight) + "@media (prefers-color-scheme:dark){" + colours_of(kDark) + "}";
}

}  // namespace kvasir::report
