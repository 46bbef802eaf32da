#include "report/table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kvasir/error.h"

namespace kvasir::report {
namespace {

Table sample() {
  return {.caption = "Speed",
          .columns = {{"method", false}, {"tokens/s"}, {"density"}, {"note", false}},
          .rows = {{"dense", count(5800), percent(1, 1), "the yardstick"},
                   {"mi|nf", count(12345), percent(0.123, 1)},
                   {"größe", number(std::nan(""), 2), number(-0.5, 3), "a, \"b\"\nc"}}};
}

TEST(Table, Terminal) {
  EXPECT_EQ(terminal_table(sample(), 60),
            " Speed\n"
            " method  tokens/s  density  note\n"
            " ────────────────────────────────────────\n"
            " dense      5,800   100.0%  the yardstick\n"
            " mi|nf     12,345    12.3%\n"
            " größe          –   -0.500  a, \"b\" c\n");
  EXPECT_EQ(terminal_table({}), "");
  EXPECT_EQ(terminal_table({.columns = {{"a"}, {"b"}}}), " a  b\n ────\n");
}

TEST(Table, TerminalWrapsTheLastColumn) {
  const Table table{.columns = {{"name", false}, {"what it does", false}},
                    .rows = {{"x", "one two three four five six"}}};
  EXPECT_EQ(terminal_table(table, 22),
            " name  what it does\n"
            " ─────────────────────\n"
            " x     one two three\n"
            "       four five six\n");
}

TEST(Table, Markdown) {
  EXPECT_EQ(markdown_table(sample()),
            "**Speed**\n\n"
            "| method | tokens/s | density | note |\n"
            "|---|---:|---:|---|\n"
            "| dense | 5,800 | 100.0% | the yardstick |\n"
            "| mi\\|nf | 12,345 | 12.3% |  |\n"
            "| größe | – | -0.500 | a, \"b\" c |\n");
}

TEST(Table, Csv) {
  EXPECT_EQ(csv_table(sample()),
            "method,tokens/s,density,note\n"
            "dense,5800,1,the yardstick\n"
            "mi|nf,12345,0.123,\n"
            "größe,,-0.5,\"a, \"\"b\"\"\nc\"\n");
}

TEST(Table, RowsHaveNoMoreCellsThanColumns) {
  const Table table{.columns = {{"a"}}, .rows = {{"1", "2"}}};
  EXPECT_THROW(terminal_table(table), Error);
  EXPECT_THROW(markdown_table(table), Error);
  EXPECT_THROW(csv_table(table), Error);
}

TEST(Table, Pairs) {
  EXPECT_EQ(terminal_pairs({{"a", "1"}, {"long name", ""}}), "  a          1\n  long name\n");
  EXPECT_EQ(terminal_pairs({}), "");
}

}  // namespace
}  // namespace kvasir::report
