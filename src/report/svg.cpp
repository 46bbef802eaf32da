#include "report/svg.h"

#include <fmt/format.h>

#include "report/style.h"
#include "report/text.h"

namespace kvasir::report {
namespace {

std::string head_of(const Drawing& drawing, std::string_view attributes) {
  const std::string width = coordinate(drawing.width), height = coordinate(drawing.height);
  return fmt::format(
      "<svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
      "role=\"img\"{2}>\n<title>{3}</title>\n"
      "<desc>{4}</desc>\n",
      width, height, attributes, escape_xml(drawing.title), escape_xml(drawing.description));
}

}  // namespace

std::string svg_file(const Drawing& drawing) {
  return head_of(drawing, " xmlns=\"http://www.w3.org/2000/svg\"") + "<style>" + style_sheet() +
         "</style>\n" +
         fmt::format("<rect class=\"k-bg\" width=\"{}\" height=\"{}\"/>\n",
                     coordinate(drawing.width), coordinate(drawing.height)) +
         drawing.body + "</svg>\n";
}

std::string svg_inline(const Drawing& drawing) {
  constexpr double kPageWidth = 1200;
  const bool is_wide = drawing.width > kPageWidth;
  return head_of(drawing, is_wide ? " class=\"wide\"" : "") + drawing.body + "</svg>\n";
}

Drawing stacked(const std::vector<Drawing>& drawings) {
  Drawing all{.title = drawings.front().title};
  SvgWriter svg;
  for (const Drawing& each : drawings) {
    svg.open_clip(0, all.height, each.width, each.height);
    svg.raw(each.body);
    svg.close_clip();
    all.height += each.height;
    all.width = std::max(all.width, each.width);
    if (!each.description.empty())
      all.description += (all.description.empty() ? "" : " ") + each.description;
  }
  all.body = svg.take();
  return all;
}

std::string coordinate(double value) {
  std::string text = fmt::format("{:.2f}", value);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.ends_with('.')) text.pop_back();
  return text == "-0" ? "0" : text;
}

void SvgWriter::begin(std::string_view name, std::string_view classes) {
  body_ += fmt::format("<{}", name);
  if (!classes.empty()) body_ += fmt::format(" class=\"{}\"", classes);
}

void SvgWriter::end(std::string_view attributes, std::string_view name, std::string_view tip) {
  if (!attributes.empty()) body_ += fmt::format(" {}", attributes);
  if (tip.empty())
    body_ += "/>\n";
  else
    body_ += fmt::format("><title>{}</title></{}>\n", escape_xml(tip), name);
}

void SvgWriter::rect(double x, double y, double width, double height, std::string_view classes,
                     std::string_view attributes, std::string_view tip) {
  begin("rect", classes);
  body_ += fmt::format(" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", coordinate(x),
                       coordinate(y), coordinate(width), coordinate(height));
  end(attributes, "rect", tip);
}

void SvgWriter::line(double x1, double y1, double x2, double y2, std::string_view classes,
                     std::string_view attributes) {
  begin("line", classes);
  body_ += fmt::format(" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"", coordinate(x1), coordinate(y1),
                       coordinate(x2), coordinate(y2));
  end(attributes, "line", {});
}

void SvgWriter::path(std::string_view data, std::string_view classes, std::string_view attributes,
                     std::string_view tip) {
  begin("path", classes);
  body_ += fmt::format(" d=\"{}\"", data);
  end(attributes, "path", tip);
}

void SvgWriter::circle(double x, double y, double radius, std::string_view classes,
                       std::string_view tip) {
  begin("circle", classes);
  body_ += fmt::format(" cx=\"{}\" cy=\"{}\" r=\"{}\"", coordinate(x), coordinate(y),
                       coordinate(radius));
  end({}, "circle", tip);
}

void SvgWriter::text(double x, double y, std::string_view text, std::string_view classes,
                     Anchor anchor, std::string_view attributes) {
  begin("text", classes);
  body_ += fmt::format(" x=\"{}\" y=\"{}\"", coordinate(x), coordinate(y));
  if (anchor != Anchor::kStart)
    body_ += anchor == Anchor::kMiddle ? " text-anchor=\"middle\"" : " text-anchor=\"end\"";
  if (!attributes.empty()) body_ += fmt::format(" {}", attributes);
  body_ += fmt::format(">{}</text>\n", escape_xml(text));
}

void SvgWriter::open_clip(double x, double y, double width, double height) {
  body_ += fmt::format("<svg x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" overflow=\"hidden\">\n",
                       coordinate(x), coordinate(y), coordinate(width), coordinate(height));
}

double draw_title(SvgWriter& svg, std::string_view title, double width) {
  if (title.empty()) return 8;
  double y = 8;
  for (const std::string& line : wrapped(title, kTitleSize * 1.05, width - 24)) {
    y += kTitleSize + 4;
    svg.text(12, y - 2, line, "k-b", Anchor::kStart,
             fmt::format("style=\"font-size:{}px\"", kTitleSize));
  }
  return y + 6;
}

}  // namespace kvasir::report
