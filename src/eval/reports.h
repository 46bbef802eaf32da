#pragma once
// A run as files for people and for machines: a page with drawings, Markdown, CSV, JSON. All are
// made of the outcomes alone.

#include <filesystem>
#include <span>
#include <string>

#include "eval/summary.h"
#include "report/table.h"

namespace kvasir::eval {

// Every cell of the summary, a row each, with intervals and costs.
report::Table cell_table(const Summary& summary);

// One page that needs nothing but itself: for each suite, length and mode the accuracy of methods
// by task, by turn and by depth, and beside what they compute, hold and take.
std::string report_html(const Summary& summary, const std::string& title);
// The same tables.
std::string report_markdown(const Summary& summary, const std::string& title);

// Writes the kind that the extension names (.html, .md, .csv, .json), whole or not at all. Throws
// Error: kInvalidArgument for another extension or where there are no outcomes; kIo.
void write_report(std::span<const Outcome> outcomes, const std::filesystem::path& file,
                  const std::string& title);
// What reports of a run in `folder` are headed with.
std::string run_title(const std::filesystem::path& folder);
// report.html, report.md, report.csv and report.json in `folder`.
void write_reports(std::span<const Outcome> outcomes, const std::filesystem::path& folder);

}  // namespace kvasir::eval
