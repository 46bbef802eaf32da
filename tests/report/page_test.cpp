#include "report/page.h"

#include <gtest/gtest.h>

#include <cmath>

#include "report/charts.h"
#include "report/xml_check.h"

namespace kvasir::report {
namespace {

std::string sample() {
  Page page("Title <script>alert(1)</script>", "A & B \xff");
  for (const char* name : {"One", "Two <&>", "Three"}) {
    page.section(name);
    page.paragraph("</p><b>");
  }
  page.pairs({{"name", "va\"lue"}, {"</dl>", ""}});
  page.table({.caption = "<c>",
              .columns = {{"m<", false}, {"n"}},
              .rows = {{"<td>", count(1234)}, {"x", number(std::nan(""), 1)}, {"y"}}});
  page.drawing(draw(LineChart{.title = "t", .series = {{"s", {{1, 2}}}}}), "cap & tion");
  return page.html();
}

TEST(Page, IsWellFormedAndEscapesWhatItIsGiven) {
  const std::string html = sample();
  XmlCheck check(html);
  EXPECT_EQ(check.fault(), "");
  EXPECT_EQ(check.count("script"), 1) << "its own";
  EXPECT_EQ(check.count("h2"), 3);
  EXPECT_EQ(check.count("svg"), 2) << "the drawing and the clip in it";
  EXPECT_EQ(html, sample());
}

TEST(Page, NeedsNothingFromOutside) {
  const std::string html = sample();
  EXPECT_EQ(html.find("http"), html.find("http-equiv")) << "no address";
  EXPECT_EQ(html.find("http", html.find("http-equiv") + 4), std::string::npos);
  for (const char* word : {"src=", "@import", "url(", "<link", "fetch("})
    EXPECT_EQ(html.find(word), std::string::npos) << word;
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
}

TEST(Page, TablesCarryTheValuesThatTheyAreSortedBy) {
  const std::string html = sample();
  EXPECT_NE(html.find("<td class=\"n\" data-v=\"1234\">1,234</td>"), std::string::npos);
  EXPECT_NE(html.find("<td class=\"n\" data-v=\"\">–</td>"), std::string::npos);
  EXPECT_NE(html.find("<td>y</td><td class=\"n\"></td>"), std::string::npos);
}

TEST(Page, EmptyOnesAreFine) {
  expect_well_formed(Page("").html());
  Page page("x");
  page.pairs({});
  page.table({});
  page.section("alone");
  const std::string html = page.html();
  expect_well_formed(html);
  EXPECT_EQ(html.find("<nav"), std::string::npos) << "nothing to choose from";
}

}  // namespace
}  // namespace kvasir::report
