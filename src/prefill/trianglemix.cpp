#include "prefill/trianglemix.h"

#include <string>

#include "prefill/methods.h"
#include "prefill/options.h"
#include "prefill/tri_shape.h"

namespace kvasir::prefill {
namespace {

// The paper's.
constexpr TriShape kDefault{.init = 8, .local = 512, .last = 128};

class TriangleMix final : public Planner {
 public:
  TriangleMix(const TriShape& shape, std::vector<bool> is_triangle,
              std::shared_ptr<const Planner> base)
      : shape_(shape), is_triangle_(std::move(is_triangle)), base_(std::move(base)) {}

  Planned plan(const PlanSite& site, PlanBuffer& plan) const override {
    if (is_triangle_.at(static_cast<size_t>(site.layer))) return {.rows = shape_.plan(site, plan)};
    return base_ ? base_->plan(site, plan) : Planned{};
  }
  bool plans_from_queries() const override { return base_ && base_->plans_from_queries(); }
  std::optional<GpuRecipe> gpu_recipe(int layer) const override {
    if (!base_ || is_triangle_.at(static_cast<size_t>(layer))) return std::nullopt;
    return base_->gpu_recipe(layer);
  }
  std::optional<std::string> gpu_refusal() const override {
    return base_ ? base_->gpu_refusal() : std::nullopt;
  }

 private:
  const TriShape shape_;
  const std::vector<bool> is_triangle_;        // [layers]
  const std::shared_ptr<const Planner> base_;  // of the other layers; null: dense
};

}  // namespace

Result<void> check_base_method(std::string_view value) {
  const auto is_base = [](std::string_view name) {
    return name != "trianglemix" && name != "auto";
  };
  if (is_base(value) && find_method(methods(), value)) return {};
  std::string names;
  for (const Method& method : methods())
    if (is_base(method.name)) names += (names.empty() ? "" : ", ") + std::string(method.name);
  return Error(ErrorCode::kInvalidArgument,
               "expected one of " + names + ", found \"" + std::string(value) + "\"");
}

Result<std::shared_ptr<const Planner>> make_trianglemix(const MethodChoice& choice,
                                                        const ModelShape& model) {
  const TriShape shape{.init = tokens_option(choice, "init", kDefault.init),
                       .local = tokens_option(choice, "local", kDefault.local),
                       .last = tokens_option(choice, "last", kDefault.last)};
  std::vector<LayerRun> runs = layers_option(choice, "layers");
  if (runs.empty()) runs = {{model.layers / 2, model.layers - 1}};
  if (runs.back().last >= model.layers)
    return Error(ErrorCode::kInvalidArgument,
                 "expected layers from 0 to " + std::to_string(model.layers - 1) +
                     ", those of the model, found " + std::to_string(runs.back().last),
                 "--prefill trianglemix:layers");
  std::vector<bool> is_triangle(static_cast<size_t>(model.layers));
  for (const LayerRun& run : runs)
    for (int layer = run.first; layer <= run.last; ++layer)
      is_triangle[static_cast<size_t>(layer)] = true;
  std::shared_ptr<const Planner> base;
  if (const auto named = choice.options.find("base"); named != choice.options.end()) {
    auto made = make_planner({.name = named->second, .options = {}}, model);
    if (!made) return made.error();
    base = std::move(made).value();
  }
  return std::shared_ptr<const Planner>(
      std::make_shared<TriangleMix>(shape, std::move(is_triangle), std::move(base)));
}

}  // namespace kvasir::prefill
