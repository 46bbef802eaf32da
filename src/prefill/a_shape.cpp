#include "prefill/a_shape.h"

#include "prefill/options.h"

namespace kvasir::prefill {
namespace {

// The first tokens of SCBench's setting, the window of the MInference paper's.
constexpr int32_t kInit = 128, kLocal = 4096;

class AShape final : public Planner {
 public:
  AShape(int32_t init, int32_t local) : init_(init), local_(local) {}

  int64_t plan(const PlanSite& site, PlanBuffer& plan) const override {
    if (a_shape_is_dense(site, init_, local_)) return 0;
    plan_a_shape(init_, local_, site.q_heads, plan);
    return site.rows;
  }

 private:
  const int32_t init_, local_;
};

}  // namespace

bool a_shape_is_dense(const PlanSite& site, int32_t init, int32_t local) {
  return site.query_offset + site.rows <= int64_t{init} + local;
}

// Neither segment depends on the row tile: the kernels then give each row the same result however
// the prompt is cut into chunks.
void plan_a_shape(int32_t init, int32_t local, int q_heads, PlanBuffer& plan) {
  plan.clear();
  plan.row_tile = 128;
  plan.segments.push_back({.count = init, .offset_begin = local});
  plan.segments.push_back({.count = kernels::kNoBound, .offset_end = local});
  plan.heads.assign(static_cast<size_t>(q_heads), {.first = 0, .count = 2});
}

std::shared_ptr<const Planner> make_a_shape(const MethodChoice& choice) {
  return std::make_shared<AShape>(tokens_option(choice, "init", kInit),
                                  tokens_option(choice, "local", kLocal));
}

}  // namespace kvasir::prefill
