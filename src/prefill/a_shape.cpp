#include "prefill/a_shape.h"

#include <algorithm>

#include "prefill/options.h"

namespace kvasir::prefill {
namespace {

// The first tokens of SCBench's setting, the window of the MInference paper's.
constexpr int32_t kInit = 128, kLocal = 4096;

class AShape final : public Planner {
 public:
  AShape(int32_t init, int32_t local) : init_(init), local_(local) {}

  Planned plan(const PlanSite& site, PlanBuffer& plan) const override {
    return {.rows = plan_a_shape(init_, local_, site, site.rows, plan)};
  }

 private:
  const int32_t init_, local_;
};

}  // namespace

void append_a_shape(int32_t init, int32_t local, std::vector<kernels::PlanSegment>& segments) {
  if (init > 0) segments.push_back({.count = init, .offset_begin = local});
  segments.push_back({.count = kernels::kNoBound, .offset_end = local});
}

RowRange plan_a_shape(int32_t init, int32_t local, const PlanSite& site, int64_t last,
                      PlanBuffer& plan) {
  const int64_t first = std::max<int64_t>(0, int64_t{init} + local - site.query_offset);
  if (first >= last) return {};
  plan.clear();
  plan.row_tile = 128;
  append_a_shape(init, local, plan.segments);
  plan.heads.assign(static_cast<size_t>(site.q_heads),
                    {.first = 0, .count = static_cast<int32_t>(plan.segments.size())});
  return {first, last};
}

std::shared_ptr<const Planner> make_a_shape(const MethodChoice& choice) {
  return std::make_shared<AShape>(tokens_option(choice, "init", kInit),
                                  tokens_option(choice, "local", kLocal));
}

}  // namespace kvasir::prefill
