#include "report/ticks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace kvasir::report {
namespace {

std::vector<std::string> texts(const Scale& scale) {
  std::vector<std::string> texts;
  for (const double tick : scale.ticks) texts.push_back(scale.text(tick));
  return texts;
}

using Words = std::vector<std::string>;

TEST(Ticks, LinearOnesAreRound) {
  const std::vector<double> values{0.3, 9.2};
  EXPECT_EQ(texts(make_scale({}, values, 6)), (Words{"0", "2", "4", "6", "8", "10"}));
  const std::vector<double> small{0.011, 0.029};
  EXPECT_EQ(texts(make_scale({}, small, 5)), (Words{"0.010", "0.015", "0.020", "0.025", "0.030"}));
  const std::vector<double> shares{0.02, 0.97};
  EXPECT_EQ(texts(make_scale({.style = NumberStyle::kPercent}, shares, 5)),
            (Words{"0%", "20%", "40%", "60%", "80%", "100%"}));
}

TEST(Ticks, NothingLiesBetweenWholeNumbers) {
  const std::vector<double> turns{1, 5};
  EXPECT_EQ(texts(make_scale({.style = NumberStyle::kWhole}, turns, 9)),
            (Words{"1", "2", "3", "4", "5"}));
  EXPECT_EQ(texts(make_scale({}, turns, 9)).size(), 9u);
}

TEST(Ticks, TokensComeInPowersOfTwo) {
  const std::vector<double> values{0, 50000};
  EXPECT_EQ(texts(make_scale({.style = NumberStyle::kTokens}, values, 5)),
            (Words{"0", "16K", "32K", "48K", "64K"}));
  const std::vector<double> lengths{8192, 131072};
  EXPECT_EQ(texts(make_scale({.is_log = true, .style = NumberStyle::kTokens}, lengths, 8)),
            (Words{"8K", "16K", "32K", "64K", "128K"}));
}

TEST(Ticks, LogarithmicOnesArePowersOrTheirMultiples) {
  const std::vector<double> wide{0.003, 2000};
  EXPECT_EQ(texts(make_scale({.is_log = true}, wide, 8)),
            (Words{"0.001", "0.01", "0.1", "1", "10", "100", "1,000", "10,000"}));
  const std::vector<double> narrow{3, 30};
  EXPECT_EQ(texts(make_scale({.is_log = true}, narrow, 8)), (Words{"2", "5", "10", "20", "50"}));
  const std::vector<double> negative{-1, 0, 5, std::nan("")};
  const Scale scale = make_scale({.is_log = true}, negative, 8);
  EXPECT_FALSE(scale.holds(0));
  EXPECT_TRUE(scale.holds(5));
  EXPECT_GE(scale.place(5), 0);
  EXPECT_LE(scale.place(5), 1);
}

TEST(Ticks, WishesAreKept) {
  const std::vector<double> values{0.4, 0.6};
  const Scale scale = make_scale({.least = 0.0, .most = 1.0}, values, 5);
  EXPECT_EQ(scale.least, 0);
  EXPECT_EQ(scale.most, 1);
  EXPECT_EQ(scale.place(0.25), 0.25);
  const Scale turned = make_scale({.least = 1.0, .most = 0.0}, values, 5);
  EXPECT_LT(turned.least, turned.most);
  const Scale above = make_scale({.least = 2.0}, values, 5);
  EXPECT_EQ(above.least, 2);
  EXPECT_GT(above.most, 2);
}

// Whatever the data: a finite range that holds them, ascending ticks inside, told apart, not many.
void expect_sound(const Axis& axis, const std::vector<double>& values, int most) {
  const Scale scale = make_scale(axis, values, most);
  ASSERT_LT(scale.least, scale.most);
  ASSERT_TRUE(std::isfinite(scale.least) && std::isfinite(scale.most));
  ASSERT_FALSE(scale.ticks.empty());
  ASSERT_LE(static_cast<int>(scale.ticks.size()), 3 * most + 3);
  for (size_t i = 0; i < scale.ticks.size(); ++i) {
    ASSERT_GE(scale.place(scale.ticks[i]), -1e-6);
    ASSERT_LE(scale.place(scale.ticks[i]), 1 + 1e-6);
    if (i > 0) {
      ASSERT_LT(scale.ticks[i - 1], scale.ticks[i]);
      ASSERT_NE(scale.text(scale.ticks[i - 1]), scale.text(scale.ticks[i]));
    }
  }
  for (const double value : values) {
    if (!scale.holds(value)) continue;
    ASSERT_GE(scale.place(value), -1e-6) << value;
    ASSERT_LE(scale.place(value), 1 + 1e-6) << value;
  }
}

TEST(Ticks, AnyDataGiveASoundAxis) {
  const std::vector<std::vector<double>> odd{
      {},         {0},         {7}, {-3}, {1e-9}, {5, 5, 5}, {std::nan("")}, {HUGE_VAL, 1},
      {0, 1e-12}, {1e15, 2e15}};
  std::mt19937 random(1);
  for (const bool is_log : {false, true})
    for (const auto style : {NumberStyle::kPlain, NumberStyle::kPercent, NumberStyle::kTokens}) {
      const Axis axis{.is_log = is_log, .style = style};
      for (size_t i = 0; i < odd.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "odd " << i << " log " << is_log);
        expect_sound(axis, odd[i], 6);
      }
      for (int i = 0; i < 300; ++i) {
        SCOPED_TRACE(testing::Message() << "random " << i << " log " << is_log);
        std::uniform_real_distribution<double> power(-6, 6), sign(is_log ? 0 : -1, 1);
        std::vector<double> values;
        for (int k = 0; k < 3; ++k)
          values.push_back(std::copysign(std::pow(10, power(random)), sign(random)));
        expect_sound(axis, values, 2 + i % 9);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
}

}  // namespace
}  // namespace kvasir::report
