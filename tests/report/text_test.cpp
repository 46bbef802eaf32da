#include "report/text.h"

#include <gtest/gtest.h>

#include <cmath>

#include "report/xml_check.h"

namespace kvasir::report {
namespace {

TEST(ReportText, WhatXmlCannotHoldIsEscapedOrReplaced) {
  EXPECT_EQ(escape_xml("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
  EXPECT_EQ(escape_xml("tab\tline\n"), "tab\tline\n");
  EXPECT_EQ(escape_xml(std::string_view("\0\x1b\x7f", 3)), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(escape_xml("\xc3\xa9\xff\xc3"), "\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(escape_xml("\xef\xbf\xbf"), "\xef\xbf\xbd") << "U+FFFF is no character";
  for (int first = 0; first < 256; ++first)
    for (int second = 0; second < 256; second += 5) {
      const std::string bytes{static_cast<char>(first), static_cast<char>(second), 'x'};
      ASSERT_EQ(
          XmlCheck("<a b=\"" + escape_xml(bytes) + "\">" + escape_xml(bytes) + "</a>").fault(), "")
          << first << " " << second;
    }
}

TEST(ReportText, CheckerFindsFaults) {
  for (const char* text : {"<a>", "<a></b>", "<a b=c/>", "<a b=\"1\" b=\"2\"/>", "<a>&nbsp;</a>",
                           "<a>x & y</a>", "<a b=\"<\"/>", "a", "<a>\x01</a>", "<a>\xff</a>", "<"})
    EXPECT_NE(XmlCheck(text).fault(), "") << text;
  EXPECT_EQ(XmlCheck("<a b=\"&lt;\"><c/>&amp;</a>").fault(), "");
}

TEST(ReportText, IsShortenedToItsWidth) {
  EXPECT_EQ(shortened("short", 12, 100), "short");
  const std::string cut = shortened("a rather long name of a method", 12, 100);
  EXPECT_TRUE(cut.ends_with("…")) << cut;
  EXPECT_LE(text_width(cut, 12), 100);
  EXPECT_GT(text_width(cut, 12), 80);
  EXPECT_EQ(shortened("日本語", 10, 21), "日…");
}

TEST(ReportText, LinesAreBrokenAtSpacesAndInsideLongWords) {
  EXPECT_EQ(wrapped("", 12, 100), std::vector<std::string>{""});
  EXPECT_EQ(wrapped("  one two  ", 12, 1000), std::vector<std::string>{"one two"});
  const std::string text = "words of several lengths and oneverylongwordthatfitsnowhereatall end";
  std::string joined;
  for (const std::string& line : wrapped(text, 12, 90)) {
    EXPECT_LE(text_width(line, 12), 90) << line;
    EXPECT_FALSE(line.empty());
    joined += line;
  }
  std::string letters = text;
  std::erase(letters, ' ');
  std::erase(joined, ' ');
  EXPECT_EQ(joined, letters) << "nothing is lost";
  EXPECT_EQ(wrapped("abc", 12, 1).size(), 3u) << "a letter a line at least";
}

TEST(ReportText, Numbers) {
  const auto plain = [](double value, double step) {
    return number_text(value, step, NumberStyle::kPlain);
  };
  EXPECT_EQ(plain(0.25, 0.05), "0.25");
  EXPECT_EQ(plain(3, 0.5), "3.0");
  EXPECT_EQ(plain(-0.0001, 0.5), "-0.0");
  EXPECT_EQ(plain(1234567, 1000), "1,234,567");
  EXPECT_EQ(plain(-1234.5, 0.5), "-1,234.5");
  EXPECT_EQ(plain(2e-7, 1e-7), "2e-07");
  EXPECT_EQ(plain(5.27e-5, 0.001), "0.000") << "less than can be told from 0";
  EXPECT_EQ(plain(3e12, 1e12), "3e+12");
  EXPECT_EQ(plain(std::nan(""), 1), "–");
  EXPECT_EQ(plain(-HUGE_VAL, 1), "-∞");
  EXPECT_EQ(number_text(0.125, 0.05, NumberStyle::kPercent), "12%");
  EXPECT_EQ(number_text(0.125, 0.005, NumberStyle::kPercent), "12.5%");
  EXPECT_EQ(number_text(65536, 65536, NumberStyle::kTokens), "64K");
  EXPECT_EQ(number_text(1536, 512, NumberStyle::kTokens), "1.5K");
  EXPECT_EQ(number_text(1 << 20, 1, NumberStyle::kTokens), "1M");
  EXPECT_EQ(number_text(1500, 500, NumberStyle::kTokens), "1,500");
}

TEST(ReportText, Shares) {
  EXPECT_EQ(share_text(1), "100%");
  EXPECT_EQ(share_text(0.9996), "100%");
  EXPECT_EQ(share_text(0.9971), "99.7%");
  EXPECT_EQ(share_text(0.123), "12%");
  EXPECT_EQ(share_text(0.0123), "1.2%");
  EXPECT_EQ(share_text(0.00123), "0.12%");
  EXPECT_EQ(share_text(0), "0%");
  EXPECT_EQ(share_text(1.031), "103%");
  EXPECT_EQ(share_text(std::nan("")), "–");
}

}  // namespace
}  // namespace kvasir::report
