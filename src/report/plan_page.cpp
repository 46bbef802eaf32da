// The drawing and the page of a whole model's plans.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/progress.h"
#include "report/plan_drawing.h"
#include "report/plan_map.h"
#include "report/style.h"
#include "report/text.h"

namespace kvasir::report {
namespace {

using kernels::PlanSize;

constexpr double kGap = 10, kSmallText = 10, kTextHeight = 28;

size_t most_heads(const ModelPlan& plan) {
  size_t heads = 0;
  for (const LayerPlan& layer : plan.layers) heads = std::max(heads, layer.heads.size());
  return heads;
}

PlanSize total_of(const LayerPlan& layer) {
  PlanSize size;
  for (const HeadPlan& head : layer.heads) size += head.size;
  return size;
}

PlanSize total_of(const ModelPlan& plan) {
  PlanSize size;
  for (const LayerPlan& layer : plan.layers) size += total_of(layer);
  return size;
}

double computed_share(const PlanSize& size) {
  return size.causal == 0 ? 1
                          : static_cast<double>(size.computed) / static_cast<double>(size.causal);
}

// Over the heads of some layers; NaN where nothing was measured.
class Recall {
 public:
  void add(const LayerPlan& layer) {
    for (const HeadPlan& head : layer.heads) {
      if (std::isnan(head.recall)) continue;
      sum_ += head.recall;
      least_ = std::min(least_, head.least_recall);
      ++count_;
    }
  }
  double mean() const { return count_ > 0 ? sum_ / count_ : std::nan(""); }
  double least() const { return count_ > 0 ? least_ : std::nan(""); }

 private:
  double sum_ = 0, least_ = 1;
  int count_ = 0;
};

Recall recall_of(const ModelPlan& plan) {
  Recall recall;
  for (const LayerPlan& layer : plan.layers) recall.add(layer);
  return recall;
}

std::string figures_of(const ModelPlan& plan) {
  const PlanSize size = total_of(plan);
  const Recall recall = recall_of(plan);
  std::string text =
      fmt::format("{} tokens; density {}, {} in whole tiles", with_thousands(plan.tokens),
                  share_text(size.density()), share_text(computed_share(size)));
  if (!std::isnan(recall.mean()))
    text +=
        fmt::format("; recall {}, least {}", share_text(recall.mean()), share_text(recall.least()));
  return text;
}

// Maps that are drawn alike are written once.
class MapShelf {
 public:
  explicit MapShelf(double size) : size_(size) {}

  void place(SvgWriter& svg, const CoverageMap& map, double x, double y) {
    const auto [place, is_new] = names_.try_emplace(map_element(map, size_), names_.size());
    if (is_new)
      definitions_ += fmt::format("<g id=\"map{}\">\n{}</g>\n", place->second, place->first);
    svg.raw(fmt::format("<use href=\"#map{}\" x=\"{}\" y=\"{}\"/>\n", place->second, coordinate(x),
                        coordinate(y)));
  }

  std::string definitions() const { return "<defs>\n" + definitions_ + "</defs>\n"; }

 private:
  const double size_;
  std::map<std::string, size_t> names_;
  std::string definitions_;
};

Table head_table(const ModelPlan& plan) {
  Table table{.columns = {{"layer"},
                          {"head"},
                          {"method", false},
                          {"pairs"},
                          {"density"},
                          {"in whole tiles"},
                          {"recall"},
                          {"least recall"}}};
  for (size_t i = 0; i < plan.layers.size(); ++i)
    for (size_t k = 0; k < plan.layers[i].heads.size(); ++k) {
      const HeadPlan& head = plan.layers[i].heads[k];
      table.rows.push_back({count(static_cast<int64_t>(i)), count(static_cast<int64_t>(k)),
                            plan.layers[i].method, count(head.size.required),
                            percent(head.size.density(), 2), percent(computed_share(head.size), 2),
                            percent(head.recall, 2), percent(head.least_recall, 2)});
    }
  return table;
}

std::vector<std::pair<std::string, std::string>> facts_of(const ModelPlan& plan,
                                                          const PlanSize& size) {
  std::vector<std::pair<std::string, std::string>> facts{
      {"model", plan.model},
      {"document", plan.document},
      {"tokens", with_thousands(plan.tokens)},
      {"prefill method", plan.method},
      {"pairs let through", fmt::format("{} of {} causal ones ({})", with_thousands(size.required),
                                        with_thousands(size.causal), share_text(size.density()))},
      {"pairs in whole tiles",
       fmt::format("{} ({})", with_thousands(size.computed), share_text(computed_share(size)))}};
  return facts;
}

constexpr std::string_view kWords =
    "Density is the share of causal query-key pairs that the plan lets through. In whole tiles "
    "counts the pairs of all rows of a row tile with groups of 64 keys that hold any of them. "
    "Recall is the share of the softmax's weight, over all keys, that falls on the keys let "
    "through.";

std::string title_of(const ModelPlan& plan) {
  return fmt::format("What {} attends to under {}", plan.model, plan.method);
}

}  // namespace

Table layer_table(const ModelPlan& plan) {
  Table table{.columns = {{"layer"},
                          {"method", false},
                          {"density"},
                          {"least dense head"},
                          {"densest head"},
                          {"in whole tiles"},
                          {"recall"},
                          {"least recall"}}};
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const LayerPlan& layer = plan.layers[i];
    double least = 1, most = 0;
    for (const HeadPlan& head : layer.heads) {
      least = std::min(least, head.size.density());
      most = std::max(most, head.size.density());
    }
    const PlanSize size = total_of(layer);
    Recall recall;
    recall.add(layer);
    table.rows.push_back({count(static_cast<int64_t>(i)), layer.method, percent(size.density(), 2),
                          percent(least, 2), percent(most, 2), percent(computed_share(size), 2),
                          percent(recall.mean(), 2), percent(recall.least(), 2)});
  }
  return table;
}

Drawing draw_model(const ModelPlan& plan) {
  const auto heads = static_cast<double>(std::max<size_t>(1, most_heads(plan)));
  double label = text_width("layer 00", kFontSize);
  for (const LayerPlan& layer : plan.layers)
    label = std::max(label, text_width(layer.method, kSmallText));
  const double left = 22 + std::min(label, 140.0);
  const double size = std::clamp(std::floor((1100 - left) / heads - kGap), 48.0, 96.0);
  const double width = std::max(560.0, left + heads * (size + kGap) + 12);
  const std::string small = fmt::format("style=\"font-size:{}px\"", kSmallText);

  SvgWriter svg;
  MapShelf shelf(size);
  double top = draw_title(svg, title_of(plan), std::min(width, 1000.0));
  for (const std::string& line : wrapped(figures_of(plan), kFontSize, width - 24)) {
    svg.text(12, top + 8, line, "k-m");
    top += 17;
  }
  top += draw_shades(svg, 12, top + 2);
  for (const std::string& line :
       wrapped("Queries go down, keys across; under each map its density and, where it was "
               "measured, its recall.",
               kFontSize, width - 24)) {
    svg.text(12, top + 10, line, "k-m");
    top += 17;
  }
  top += 26;
  for (size_t head = 0; head < most_heads(plan); ++head)
    svg.text(left + static_cast<double>(head) * (size + kGap) + size / 2, top - 6,
             head == 0 ? "head 0" : fmt::format("{}", head), "k-m", Anchor::kMiddle);
  double y = top;
  for (size_t layer = 0; layer < plan.layers.size(); ++layer) {
    const LayerPlan& shown = plan.layers[layer];
    svg.text(12, y + 14, fmt::format("layer {}", layer));
    svg.text(12, y + 28, shortened(shown.method, kSmallText, left - 20), "k-m", Anchor::kStart,
             small);
    double x = left;
    for (const HeadPlan& head : shown.heads) {
      shelf.place(svg, head.map, x, y);
      svg.text(x + size / 2, y + size + 11, share_text(head.size.density()), "k-t", Anchor::kMiddle,
               small);
      if (!std::isnan(head.recall))
        svg.text(x + size / 2, y + size + 23, share_text(head.recall), "k-m", Anchor::kMiddle,
                 small);
      x += size + kGap;
    }
    y += size + kTextHeight + kGap;
  }
  if (plan.layers.empty()) svg.text(12, y + 14, "no layers", "k-m");
  return {.width = width,
          .height = y + (plan.layers.empty() ? 24 : 4),
          .title = title_of(plan),
          .description = fmt::format("Maps of {} layers by {} heads. {}.", plan.layers.size(),
                                     most_heads(plan), figures_of(plan)),
          .body = shelf.definitions() + svg.take()};
}

IndexedImage model_image(const ModelPlan& plan) {
  constexpr int kSpace = 4;
  int size = 1;
  for (const LayerPlan& layer : plan.layers)
    for (const HeadPlan& head : layer.heads) size = std::max(size, head.map.pixels());
  const int pitch = size + kSpace;
  IndexedImage image{
      .width = kSpace + pitch * static_cast<int>(std::max<size_t>(1, most_heads(plan))),
      .height = kSpace + pitch * static_cast<int>(std::max<size_t>(1, plan.layers.size()))};
  image.pixels.resize(static_cast<size_t>(image.width) * static_cast<size_t>(image.height));
  image.palette = {{255, 255, 255, 255}};
  int top = kSpace;
  for (const LayerPlan& layer : plan.layers) {
    int left = kSpace;
    for (const HeadPlan& head : layer.heads) {
      const IndexedImage map = image_of(head.map, true);
      image.palette = map.palette;
      for (int row = 0; row < map.height; ++row)
        std::copy_n(map.pixels.begin() + row * map.width, map.width,
                    image.pixels.begin() + int64_t{top + row} * image.width + left);
      left += pitch;
    }
    top += pitch;
  }
  return image;
}

Page plan_page(const ModelPlan& plan) {
  Page page(title_of(plan), figures_of(plan) + ".");
  page.pairs(facts_of(plan, total_of(plan)));
  page.paragraph(kWords);
  page.section("Maps");
  page.drawing(draw_model(plan));
  page.section("Layers");
  page.table(layer_table(plan));
  page.section("Heads");
  page.table(head_table(plan));
  return page;
}

Page head_page(const ModelPlan& plan, size_t layer, size_t head) {
  const Drawing drawing = draw_head(plan, layer, head);
  Page page(drawing.title);
  page.pairs(facts_of(plan, plan.layers[layer].heads[head].size));
  page.paragraph(kWords);
  page.drawing(drawing);
  return page;
}

}  // namespace kvasir::report
