#pragma once
// How drawings and pages look, in light and dark: one sheet of classes, which every drawing uses.
//
//   k-bg background, k-t text, k-m quieter text, k-b bold text, k-g grid lines, k-a axis lines,
//   k-s0 .. k-s7 lines of a series, k-f0 .. k-f7 its marks and bars, k-e whiskers,
//   k-none "causal, but not computed" and k-c coverage in drawings of plans

#include <array>
#include <string>
#include <string_view>

namespace kvasir::report {

struct Colour {
  int red = 0, green = 0, blue = 0;
  std::string hex() const;  // "#0b3d6e"
};

// The ratio of two colours' luminances that WCAG 2 asks for: 4.5 for text, 3 for marks.
double contrast(const Colour& a, const Colour& b);
// Black or white, whichever is read better on `background`.
Colour ink_on(const Colour& background);
// From pale at 0 to dark at 1, told apart without telling hues apart.
Colour sequential(double share);

struct Theme {
  Colour background, text, quiet, grid, axis;
  std::array<Colour, 8> series;
};
extern const Theme kLight, kDark;

// Of coverage in drawings of plans: more or less opaque over either background.
inline constexpr Colour kCoverage{0x2f, 0x7d, 0xc4};
inline constexpr Colour kCausal{0x80, 0x80, 0x80};
inline constexpr double kCausalOpacity = 0.18;

inline constexpr double kFontSize = 12, kTitleSize = 15;

// The sheet: light, and dark where the reader's system is.
std::string style_sheet();

}  // namespace kvasir::report
