// Reports hold every cell, are well formed and are written whole or not at all.

#include "eval/reports.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "eval/made_outcomes.h"
#include "report/xml_check.h"

namespace kvasir::eval {
namespace {

struct Case {
  const char* name;
  Made made;
  int drawings;
};

std::vector<Case> cases() {
  const std::vector<double> depths{0, 0.25, 0.5, 0.75, 1};
  return {
      {"one_question", {.sessions = 1}, 0},
      {"one_row", {.tasks = {"kv", "ps"}}, 0},
      // matrix, turns, computed, time; KV is all alike
      {"two_rows", {.tasks = {"kv", "ps", "hop"}, .rows = 2, .turns = 5, .failing = 17}, 4},
      // three of every chart, of five lines at most
      {"many_rows", {.tasks = {"kv", "ps"}, .rows = 11, .sessions = 8, .turns = 3}, 10},
      {"lengths", {.lengths = {512, 4096, 65536}, .rows = 3}, 3 * 2 + 1},
      {"needle",
       {.suite = "needle",
        .tasks = {"needle"},
        .lengths = {4096, 16384},
        .depths = depths,
        .rows = 2,
        .sessions = 6},
       2 * 2 + 1 + 2},
  };
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

class FolderTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "reports-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST(Reports, EveryCellIsInEveryKind) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const Summary summary = summarize(made_outcomes(one.made, 1));
    const report::Table cells = cell_table(summary);
    EXPECT_EQ(cells.rows.size(), summary.cells.size());
    EXPECT_EQ(count(report::csv_table(cells), "\n"), summary.cells.size() + 1);
    const std::string html = report_html(summary, "A & B");
    EXPECT_EQ(count(html, "<figure>"), static_cast<size_t>(one.drawings));
    EXPECT_EQ(count(html, "<script"), 1u) << "the page's own";
    EXPECT_NE(html.find("<title>A &amp; B</title>"), std::string::npos);
    const std::string markdown = report_markdown(summary, "A");
    for (const SummaryCell& cell : summary.cells) {
      if (cell.key.turn >= 0 || cell.key.depth >= 0) continue;
      const std::string text = fmt::format("{:.2f} ({:.2f} to {:.2f})", cell.accuracy,
                                           cell.interval.low, cell.interval.high);
      EXPECT_NE(markdown.find(text), std::string::npos) << text;
      EXPECT_NE(html.find(text), std::string::npos) << text;
    }
  }
}

TEST(Reports, PagesAreWellFormedAndTheSameAgain) {
  for (const Case& one : cases()) {
    SCOPED_TRACE(one.name);
    const Summary summary = summarize(made_outcomes(one.made, 2));
    const std::string html = report_html(summary, "A");
    EXPECT_EQ(report::XmlCheck(html).fault(), "");
    EXPECT_EQ(report_html(summary, "A"), html);
  }
}

TEST_F(FolderTest, ARunLeavesFourReports) {
  const std::vector<Outcome> outcomes = made_outcomes({.rows = 2}, 3);
  write_reports(outcomes, folder_);
  const auto content = [&](const char* name) { return read_file(folder_ / name).value(); };
  EXPECT_TRUE(content("report.html").starts_with("<!DOCTYPE html>"));
  EXPECT_TRUE(content("report.md").starts_with("# Benchmark reports-"));
  EXPECT_TRUE(content("report.csv").starts_with("suite,task,length,"));
  EXPECT_EQ(nlohmann::json::parse(content("report.json"))["rows"].size(), 2u);
}

TEST_F(FolderTest, RefusesWhatCannotBeWritten) {
  const std::vector<Outcome> outcomes = made_outcomes({}, 4);
  EXPECT_THROW(write_report(outcomes, folder_ / "report.pdf", "A"), Error);
  EXPECT_THROW(write_report({}, folder_ / "report.html", "A"), Error);
  EXPECT_THROW(write_report(outcomes, folder_ / "missing" / "report.html", "A"), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "nothing is left of them";
}

}  // namespace
}  // namespace kvasir::eval
