#include "prefill/methods.h"

#include "prefill/a_shape.h"
#include "prefill/flexprefill/planner.h"
#include "prefill/minference/planner.h"
#include "prefill/options.h"
#include "prefill/planner.h"
#include "prefill/tri_shape.h"
#include "prefill/trianglemix.h"
#include "prefill/xattention/planner.h"

namespace kvasir::prefill {
namespace {

constexpr MethodOption kInit{"init", "tokens at the beginning that every query sees", check_tokens};
constexpr MethodOption kLocal{"local", "last tokens that a query sees, itself included",
                              check_at_least_one_token};
constexpr MethodOption kLast{"last", "last rows of the prompt, which see everything", check_tokens};
constexpr MethodOption kAShape[] = {kInit, kLocal};
constexpr MethodOption kTriShape[] = {kInit, kLocal, kLast};
constexpr MethodOption kTriangleMix[] = {
    {"layers", "tri-shape ones, as 12-31 or 5+7+15-35; without it those of the config",
     check_layers},
    {"config", "file of layers; without it the model's own, else the upper half", check_file},
    {"base", "the method of the other layers, dense or any that this program has",
     check_base_method},
    kInit,
    kLocal,
    kLast};

constexpr MethodOption kAuto[] = {
    {"file", "of measurements; without it the model's own", check_file},
    {"bound", "KL to dense prefill up to which a method may be taken, in nats", check_bound}};

constexpr MethodOption kMInference[] = {
    {"config", "file of the heads' patterns; without it the model's own", check_file},
    {"ratio", "times the budgets of vertical-slash heads", minference::check_ratio},
    {"index", "relative or, tile by tile as in the released code, reference",
     minference::check_index},
    {"mass", "share of its attention that a head keeps, instead of budgets", check_share},
    {"densest", "share of attention above which a head is computed densely", check_share}};

constexpr MethodOption kXAttention[] = {
    {"stride", "8 or 16: queries and keys of a group", xattention::check_stride},
    {"threshold", "share of the estimated attention that each row of blocks keeps", check_share},
    {"thresholds", "file of a threshold for each head; without both, the model's own", check_file},
    {"densest", "share of attention above which a head is computed densely", check_share}};
constexpr MethodOption kFlexPrefill[] = {
    {"gamma", "share of its attention that a head keeps", check_share},
    {"tau", "distance up to which mean keys may stand for their blocks", check_distance},
    {"min_blocks", "blocks of columns and of distances at least", check_at_least_one_token},
    {"densest", "share of attention above which a head is computed densely", check_share}};

constexpr MethodCapabilities kEverywhere{.chunked_prefill = true,
                                         .prefix_reuse = true,
                                         .batching = true,
                                         .evicted_kv = true,
                                         .deterministic = true,
                                         .gpu = true};

constexpr Method kMethods[] = {
    {.name = "dense",
     .description = "every query attends to all positions before it",
     .capabilities = kEverywhere,
     .options = {}},
    {.name = "auto",
     .description = "the fastest that was measured to answer as dense does (kvasir search auto)",
     .capabilities = kEverywhere,
     .options = kAuto},
    {.name = "a_shape",
     .description = "every query attends to the first tokens and to its last ones",
     .capabilities = kEverywhere,
     .options = kAShape,
     .scaled = "init=n/32,local=n/8"},
    {.name = "tri_shape",
     .description = "a_shape, but the prompt's last rows attend to everything",
     .capabilities = kEverywhere,
     .options = kTriShape,
     .scaled = "init=n/32,local=n/8,last=n/16"},
    {.name = "trianglemix",
     .description = "tri_shape in some layers, dense or another method in the others",
     .capabilities = kEverywhere,
     .options = kTriangleMix,
     .scaled = "init=n/32,local=n/8,last=n/16"},
    {.name = "minference",
     .description = "each head the columns and diagonals, or blocks, that its last queries favour",
     .capabilities = kEverywhere,
     .options = kMInference,
     .scaled = "mass=0.9"},
    {.name = "xattention",
     .description = "blocks that hold most of the attention, as antidiagonals estimate it",
     .capabilities = kEverywhere,
     .options = kXAttention},
    {.name = "flexprefill",
     .description = "each head as many blocks as hold a share of its attention",
     .capabilities = kEverywhere,
     .options = kFlexPrefill},
};

}  // namespace

std::span<const Method> methods() { return kMethods; }

Result<std::shared_ptr<const Planner>> make_planner(const MethodChoice& choice,
                                                    const ModelShape& model) {
  if (choice.name == "dense") return std::shared_ptr<const Planner>();
  if (choice.name == "a_shape") return make_a_shape(choice);
  if (choice.name == "tri_shape") return make_tri_shape(choice);
  if (choice.name == "minference") return minference::make_minference(choice, model);
  if (choice.name == "xattention") return xattention::make_xattention(choice, model);
  if (choice.name == "flexprefill") return flexprefill::make_flexprefill(choice);
  if (choice.name == "trianglemix") return make_trianglemix(choice, model);
  if (choice.name == "auto")
    return Error(ErrorCode::kUnsupported,
                 "auto chooses by the length of a request's prompt; name a method here",
                 "--prefill");
  return Error(ErrorCode::kInternal, "no planner for the method " + choice.name, "--prefill");
}

}  // namespace kvasir::prefill
