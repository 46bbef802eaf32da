#pragma once
// What kernels on a GPU make a layer's plan from queries with (kernels/attention_planner), by the
// method: its options, as kernels take them.

#include <cstdint>
#include <span>
#include <variant>

#include "kernels/vertical_slash/head_budget.h"

namespace kvasir::prefill {

struct MinferenceRecipe {
  std::span<const kernels::HeadBudget> heads;  // [q_heads]
  float mass = 0;                              // 0: the heads' budgets
  double densest = 0;
  int32_t blocks = 0;  // of a row tile, of block-sparse heads
};

struct XAttentionRecipe {
  int stride = 0;
  float threshold = 0;
  std::span<const float> head_thresholds;  // [q_heads]: of each head instead; or empty
  double densest = 0;
};

struct FlexPrefillRecipe {
  double gamma = 0;
  double tau = 0;
  int32_t min_blocks = 0;
  double densest = 0;
};

using GpuRecipe = std::variant<MinferenceRecipe, XAttentionRecipe, FlexPrefillRecipe>;

}  // namespace kvasir::prefill
