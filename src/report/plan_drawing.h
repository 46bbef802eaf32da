#pragma once
// Drawings of what a prompt's queries attended to under a prefill method, and a page of them.

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/paged_attention/plan_size.h"
#include "report/coverage.h"
#include "report/page.h"
#include "report/png.h"
#include "report/svg.h"
#include "report/table.h"

namespace kvasir::report {

struct HeadPlan {
  CoverageMap map;
  kernels::PlanSize size;
  // Share of the softmax's weight that the plan keeps: mean and least over sampled queries; NaN
  // where it was not measured.
  double recall;
  double least_recall;
};

struct LayerPlan {
  std::string method;  // "dense" where the method left the layer alone
  std::vector<HeadPlan> heads;
};

struct ModelPlan {
  std::string model, document, method;
  int64_t tokens = 0;
  int64_t sampled_queries = 0;  // behind each recall
  std::vector<LayerPlan> layers;
};

// One head: queries down, keys across, with axes.
Drawing draw_head(const ModelPlan& plan, size_t layer, size_t head);
IndexedImage head_image(const ModelPlan& plan, size_t layer, size_t head);

// Layers down, heads across: a small map each, its density and recall under it.
Drawing draw_model(const ModelPlan& plan);
// The maps alone.
IndexedImage model_image(const ModelPlan& plan);

Table layer_table(const ModelPlan& plan);

// Totals, all heads, and tables of layers and heads.
Page plan_page(const ModelPlan& plan);
// The same of one head.
Page head_page(const ModelPlan& plan, size_t layer, size_t head);

}  // namespace kvasir::report
