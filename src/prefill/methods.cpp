#include "prefill/methods.h"

#include "prefill/a_shape.h"
#include "prefill/options.h"
#include "prefill/planner.h"
#include "prefill/tri_shape.h"
#include "prefill/trianglemix.h"

namespace kvasir::prefill {
namespace {

constexpr MethodOption kInit{"init", "tokens at the beginning that every query sees", check_tokens};
constexpr MethodOption kLocal{"local", "last tokens that a query sees, itself included",
                              check_at_least_one_token};
constexpr MethodOption kLast{"last", "last rows of the prompt, which see everything", check_tokens};
constexpr MethodOption kAShape[] = {kInit, kLocal};
constexpr MethodOption kTriShape[] = {kInit, kLocal, kLast};
constexpr MethodOption kTriangleMix[] = {
    {"layers", "tri-shape ones, as 12-31 or 5+7+15-35; without it the upper half", check_layers},
    kInit,
    kLocal,
    kLast};

constexpr MethodCapabilities kOnCpu{
    .chunked_prefill = true, .prefix_reuse = true, .batching = true};

constexpr Method kMethods[] = {
    {.name = "dense",
     .description = "every query attends to all positions before it",
     .capabilities = {.chunked_prefill = true, .prefix_reuse = true, .batching = true, .gpu = true},
     .options = {}},
    {.name = "a_shape",
     .description = "every query attends to the first tokens and to its last ones",
     .capabilities = kOnCpu,
     .options = kAShape},
    {.name = "tri_shape",
     .description = "a_shape, but the prompt's last rows attend to everything",
     .capabilities = kOnCpu,
     .options = kTriShape},
    {.name = "trianglemix",
     .description = "tri_shape in some layers, dense in the others",
     .capabilities = kOnCpu,
     .options = kTriangleMix},
};

}  // namespace

std::span<const Method> methods() { return kMethods; }

Result<std::shared_ptr<const Planner>> make_planner(const MethodChoice& choice,
                                                    const ModelShape& model) {
  if (choice.name == "dense") return std::shared_ptr<const Planner>();
  if (choice.name == "a_shape") return make_a_shape(choice);
  if (choice.name == "tri_shape") return make_tri_shape(choice);
  if (choice.name == "trianglemix") return make_trianglemix(choice, model);
  return Error(ErrorCode::kInternal, "no planner for the method " + choice.name, "--prefill");
}

}  // namespace kvasir::prefill
