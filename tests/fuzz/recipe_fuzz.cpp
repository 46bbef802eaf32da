// Recipes and manifests (behind a NUL): any text gives an error of one line or something sound.

#include <string>
#include <vector>

#include "data/manifest.h"
#include "data/recipe.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace kvasir;
  static const std::vector<std::string> tasks = {"kv", "needle"};
  const auto [toml, json] = fuzz::halves(bytes, size);
  const auto recipe = data::parse_recipe(toml, "fuzz.toml", "folder", tasks);
  if (recipe) {
    const data::Recipe& read = recipe.value();
    fuzz::check(!read.phases.empty() && read.steps() > 0, "a recipe has steps");
    for (const data::PhaseRecipe& phase : read.phases) {
      fuzz::check(phase.sequences_of_step() > 0, "a step has sequences");
      fuzz::check(!phase.mixture.empty(), "a phase has a source");
    }
  } else {
    fuzz::check(recipe.error().code() == ErrorCode::kMalformed, "malformed");
  }
  const auto manifest = data::parse_manifest(json, "fuzz.json");
  if (!manifest) return 0;
  const auto again = data::parse_manifest(data::manifest_json(manifest.value()), "again");
  fuzz::check(again.ok() && again.value().titles == manifest.value().titles, "written as read");
  return 0;
}
