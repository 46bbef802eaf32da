#pragma once
// One HTML page that needs nothing but itself: styles, drawings and a few lines of script for
// sorting are inside, and a policy in its head forbids loading anything else.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/svg.h"
#include "report/table.h"

namespace kvasir::report {

class Page {
 public:
  // `lede`: a sentence or two under the title; may be empty.
  explicit Page(std::string title, std::string lede = {});

  // What follows stands under this heading; the page lists them where there are several.
  void section(std::string_view heading);
  void paragraph(std::string_view text);
  void pairs(const std::vector<std::pair<std::string, std::string>>& pairs);
  // Sorted by a column on a click on its head.
  void table(const Table& table);
  void drawing(const Drawing& drawing, std::string_view caption = {});

  std::string html() const;

 private:
  std::string title_, lede_, body_;
  std::vector<std::string> headings_;
};

}  // namespace kvasir::report
