#include "report/frame.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/style.h"
#include "report/text.h"

namespace kvasir::report {

std::string dash_of(size_t series) {
  static constexpr const char* kDashes[] = {"", "7 3", "2 3", "9 3 2 3"};
  const char* dash = kDashes[series % std::size(kDashes)];
  return *dash ? fmt::format(" stroke-dasharray=\"{}\"", dash) : std::string();
}

void draw_marker(SvgWriter& svg, size_t series, double x, double y, std::string_view tip) {
  const std::string fill = fmt::format("k-f{}", series % kColours);
  const auto shape = [&](std::string_view outline) {
    svg.path(fmt::format("M{} {}{}", coordinate(x), coordinate(y), outline), fill, {}, tip);
  };
  switch (series % 4) {
    case 0:
      return svg.circle(x, y, 3.5, fill, tip);
    case 1:
      return svg.rect(x - 3.2, y - 3.2, 6.4, 6.4, fill, {}, tip);
    case 2:
      return shape("m0 -4.4l4.2 7.4h-8.4z");
    default:
      return shape("m0 -4.6l4.6 4.6l-4.6 4.6l-4.6 -4.6z");
  }
}

void draw_bar(SvgWriter& svg, size_t series, double x, double y, double width, double height,
              std::string_view tip) {
  const size_t colour = series % kColours;
  if (series % 2 == 0) {
    svg.rect(x, y, width, height, fmt::format("k-f{}", colour), {}, tip);
    return;
  }
  svg.rect(x, y, width, height, "k-bg");
  svg.rect(x + 0.5, y + 0.5, std::max(0.0, width - 1), height - 1,
           fmt::format("k-f{0} k-s{0}", colour), "fill-opacity=\"0.35\"", tip);
}

double draw_key(SvgWriter& svg, const std::vector<std::string>& names, KeyKind kind, double left,
                double top, double width) {
  constexpr double kSample = 26, kGap = 18, kRow = 18;
  double x = left, y = top + kRow;
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string name = shortened(names[i], kFontSize, width - kSample - 6);
    const double size = kSample + 6 + text_width(name, kFontSize);
    if (x > left && x + size > left + width) {
      x = left;
      y += kRow;
    }
    if (kind == KeyKind::kLines) {
      svg.line(x, y - 4, x + kSample, y - 4, fmt::format("k-s{}", i % kColours),
               "stroke-width=\"2\"" + dash_of(i));
      draw_marker(svg, i, x + kSample / 2, y - 4);
    } else {
      draw_bar(svg, i, x + 6, y - 10, kSample - 10, 11);
    }
    svg.text(x + kSample + 6, y, name);
    x += size + kGap;
  }
  return y + 4 - top;
}

double widest_tick(const Scale& scale) {
  double width = 0;
  for (const double tick : scale.ticks)
    width = std::max(width, text_width(scale.text(tick), kFontSize));
  return width;
}

void draw_x_axis(SvgWriter& svg, const Plot& plot, const std::string& label, bool with_grid) {
  double free_from = -1e9;
  for (const double tick : plot.x.ticks) {
    const double x = plot.x_of(tick);
    if (with_grid) svg.line(x, plot.top, x, plot.bottom(), "k-g");
    svg.line(x, plot.bottom(), x, plot.bottom() + 4, "k-a");
    const std::string text = plot.x.text(tick);
    const double half = text_width(text, kFontSize) / 2;
    if (x - half < free_from) continue;
    free_from = x + half + 4;
    svg.text(x, plot.bottom() + 17, text, "k-m", Anchor::kMiddle);
  }
  svg.line(plot.left, plot.bottom(), plot.right(), plot.bottom(), "k-a");
  svg.text(plot.left + plot.width / 2, plot.bottom() + 35,
           shortened(label, kFontSize, plot.right()), "k-t", Anchor::kMiddle);
}

void draw_y_axis(SvgWriter& svg, const Plot& plot, const std::string& label) {
  for (const double tick : plot.y.ticks) {
    const double y = plot.y_of(tick);
    svg.line(plot.left, y, plot.right(), y, "k-g");
    svg.text(plot.left - 6, y + 4, plot.y.text(tick), "k-m", Anchor::kEnd);
  }
  svg.text(12, plot.top - 10, shortened(label, kFontSize, plot.right() - 12));
}

void draw_no_data(SvgWriter& svg, const Plot& plot) {
  svg.text(plot.left + plot.width / 2, plot.top + plot.height / 2 + 4, "no data", "k-m",
           Anchor::kMiddle);
}

}  // namespace kvasir::report
