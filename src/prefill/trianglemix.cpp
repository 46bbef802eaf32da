#include "prefill/trianglemix.h"

#include <string>

#include "base/file.h"
#include "prefill/methods.h"
#include "prefill/options.h"
#include "prefill/tri_shape.h"
#include "prefill/triangle_layers.h"

namespace kvasir::prefill {
namespace {

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

Result<TriangleLayers> find_config(const MethodChoice& choice, const ModelShape& model) {
  TriangleLayers upper_half;
  for (int layer = model.layers / 2; layer < model.layers; ++layer)
    upper_half.layers.push_back(layer);
  const auto named = choice.options.find("config");
  const bool is_named = named != choice.options.end();
  if (!is_named && model.folder.empty()) return upper_half;
  const std::filesystem::path path =
      is_named ? std::filesystem::path(named->second) : model.folder / kTriangleFile;
  const auto text = read_file(path);
  if (text) return parse_triangle_layers(text.value(), path.string(), model.layers);
  if (text.error().code() == ErrorCode::kNotFound && !is_named) return upper_half;
  return text.error();
}

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
  auto found = find_config(choice, model);
  if (!found) return found.error();
  const TriangleLayers& config = found.value();
  const TriShape shape{.init = tokens_option(choice, "init", config.init),
                       .local = tokens_option(choice, "local", config.local),
                       .last = tokens_option(choice, "last", config.last)};
  std::vector<LayerRun> runs = layers_option(choice, "layers");
  if (runs.empty())
    for (const int32_t layer : config.layers) runs.push_back({layer, layer});
  if (!runs.empty() && runs.back().last >= model.layers)
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
