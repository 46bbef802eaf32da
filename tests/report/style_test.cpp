#include "report/style.h"

#include <gtest/gtest.h>

namespace kvasir::report {
namespace {

TEST(Style, ContrastIsThatOfTheStandard) {
  EXPECT_NEAR(contrast({0, 0, 0}, {255, 255, 255}), 21, 1e-9);
  EXPECT_NEAR(contrast({0x77, 0x77, 0x77}, {255, 255, 255}), 4.48, 0.005);
}

TEST(Style, TextAndMarksAreReadable) {
  for (const Theme* theme : {&kLight, &kDark}) {
    EXPECT_GE(contrast(theme->text, theme->background), 7);
    EXPECT_GE(contrast(theme->quiet, theme->background), 4.5);
    EXPECT_GE(contrast(theme->axis, theme->background), 3);
    for (const Colour& colour : theme->series)
      EXPECT_GE(contrast(colour, theme->background), 3) << colour.hex();
    EXPECT_GE(contrast(kCoverage, theme->background), 3);
  }
}

TEST(Style, CellsOfHeatMapsAreReadableAndDarkenSteadily) {
  double before = 0;
  for (int i = 0; i <= 100; ++i) {
    const Colour colour = sequential(i / 100.0);
    EXPECT_GE(contrast(ink_on(colour), colour), 4.5) << i;
    const double dark = contrast(colour, {255, 255, 255});
    EXPECT_GE(dark, before) << i;
    before = dark;
  }
  EXPECT_EQ(sequential(-1).hex(), sequential(0).hex());
  EXPECT_EQ(sequential(2).hex(), sequential(1).hex());
}

TEST(Style, SheetHasBothThemes) {
  const std::string sheet = style_sheet();
  EXPECT_NE(sheet.find(kLight.text.hex()), std::string::npos);
  EXPECT_GT(sheet.find(kDark.text.hex()), sheet.find("prefers-color-scheme:dark"));
  EXPECT_EQ(sheet.find("<"), std::string::npos) << "it stands in XML as it is";
}

}  // namespace
}  // namespace kvasir::report
