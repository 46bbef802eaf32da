#pragma once
// Drawings as SVG, written element by element. The same calls give the same bytes.

#include <string>
#include <string_view>
#include <vector>

namespace kvasir::report {

struct Drawing {
  double width = 0, height = 0;  // pixels
  std::string title;             // what it shows, for those who do not see it
  std::string description;       // and what there is to see
  std::string body;              // elements with the classes of style.h
};

// A file by itself: style and background included.
std::string svg_file(const Drawing& drawing);
// For a page that has the style already; a drawing that is wider than most pages has the class
// "wide", which is not to be shrunk until nobody can read it.
std::string svg_inline(const Drawing& drawing);

// One below the other, under the first one's title.
Drawing stacked(const std::vector<Drawing>& drawings);

enum class Anchor { kStart, kMiddle, kEnd };

// A coordinate or size: two decimals at most, no exponent, no -0.
std::string coordinate(double value);

// Elements one after the other. `classes` and `attributes` are written as they are; text is
// escaped.
class SvgWriter {
 public:
  void rect(double x, double y, double width, double height, std::string_view classes,
            std::string_view attributes = {}, std::string_view tip = {});
  void line(double x1, double y1, double x2, double y2, std::string_view classes,
            std::string_view attributes = {});
  void path(std::string_view data, std::string_view classes, std::string_view attributes = {},
            std::string_view tip = {});
  void circle(double x, double y, double radius, std::string_view classes,
              std::string_view tip = {});
  // The baseline starts, has its middle or ends at (x, y).
  void text(double x, double y, std::string_view text, std::string_view classes = "k-t",
            Anchor anchor = Anchor::kStart, std::string_view attributes = {});
  // Around the elements until close(): moved to (x, y), cut off at width and height.
  void open_clip(double x, double y, double width, double height);
  void close_clip() { body_ += "</svg>\n"; }
  void raw(std::string_view elements) { body_ += elements; }

  std::string take() { return std::move(body_); }

 private:
  void begin(std::string_view name, std::string_view classes);
  void end(std::string_view attributes, std::string_view name, std::string_view tip);
  std::string body_;
};

// Title at the top left, wrapped to `width`; returns the height that it takes.
double draw_title(SvgWriter& svg, std::string_view title, double width);

}  // namespace kvasir::report
