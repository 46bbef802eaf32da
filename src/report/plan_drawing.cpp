#include "report/plan_drawing.h"

#include <fmt/format.h>

#include <cmath>

#include "report/plan_map.h"
#include "report/style.h"
#include "report/text.h"
#include "report/ticks.h"

namespace kvasir::report {
namespace {

std::string name_of(const ModelPlan& plan, size_t layer, size_t head) {
  const std::string& method = plan.layers[layer].method;
  return fmt::format("Layer {}, head {}: {}", layer, head, method);
}

std::string figures_of(const ModelPlan& plan, const HeadPlan& head) {
  std::string text = fmt::format(
      "density {}, {} in whole tiles", share_text(head.size.density()),
      share_text(static_cast<double>(head.size.computed) / static_cast<double>(head.size.causal)));
  if (!std::isnan(head.recall))
    text += fmt::format(", recall {} (least {} of {} queries)", share_text(head.recall),
                        share_text(head.least_recall), plan.sampled_queries);
  return text;
}

void draw_token_axes(SvgWriter& svg, double left, double top, double size, int64_t tokens) {
  const Scale scale = make_scale(
      {.style = NumberStyle::kTokens, .least = 0.0, .most = static_cast<double>(tokens)}, {}, 8);
  for (const double tick : scale.ticks) {
    const double at = size * scale.place(tick);
    svg.line(left - 4, top + at, left, top + at, "k-a");
    svg.text(left - 7, top + at + 4, scale.text(tick), "k-m", Anchor::kEnd);
    svg.line(left + at, top + size, left + at, top + size + 4, "k-a");
    svg.text(left + at, top + size + 17, scale.text(tick), "k-m", Anchor::kMiddle);
  }
  svg.rect(left, top, size, size, "k-a");
  svg.text(left + size / 2, top + size + 35, "keys", "k-t", Anchor::kMiddle);
  svg.text(12, top - 8, "queries");
}

}  // namespace

Drawing draw_head(const ModelPlan& plan, size_t layer, size_t head) {
  constexpr double kSize = 512, kLeft = 64, kWidth = kLeft + kSize + 28;
  const HeadPlan& shown = plan.layers[layer].heads[head];
  SvgWriter svg;
  double top = draw_title(svg, name_of(plan, layer, head), kWidth);
  for (const std::string& line : wrapped(figures_of(plan, shown), kFontSize, kWidth - 24)) {
    svg.text(12, top + 8, line, "k-m");
    top += 17;
  }
  top += draw_shades(svg, 12, top + 2) + 24;
  svg.raw(fmt::format("<g transform=\"translate({} {})\">\n", coordinate(kLeft), coordinate(top)) +
          map_element(shown.map, kSize) + "</g>\n");
  draw_token_axes(svg, kLeft, top, kSize, plan.tokens);
  return {.width = kWidth,
          .height = top + kSize + 46,
          .title = name_of(plan, layer, head),
          .description = fmt::format("Map of {} queries (down) by keys (across). {}.", plan.tokens,
                                     figures_of(plan, shown)),
          .body = svg.take()};
}

IndexedImage head_image(const ModelPlan& plan, size_t layer, size_t head) {
  return image_of(plan.layers[layer].heads[head].map, true);
}

}  // namespace kvasir::report
