#include "kernels/paged_attention/paged_attention_cuda.h"

#include "base/check.h"
#include "kernels/paged_attention/prefill_attention_table.h"

namespace kvasir::kernels {
namespace {

const PrefillImplementation& find_prefill(const AttentionDesc& desc, int compute_capability) {
  const PrefillImplementation* best = nullptr;
  for (const PrefillImplementation* each : {&kPrefillAttentionSm80, &kPrefillAttentionSm90})
    if (each->supports(desc, compute_capability) && (!best || each->priority > best->priority))
      best = each;
  KVASIR_CHECK(best != nullptr, "no implementation of prefill attention for this head_dim");
  return *best;
}

AttentionDesc desc_of(const CudaAttentionArgs& args) {
  return {.dtype = args.pages.dtype,
          .q_heads = args.q_heads,
          .kv_heads = args.pages.kv_heads,
          .head_dim = args.pages.head_dim};
}

}  // namespace

size_t prefill_attention_workspace_bytes(const AttentionDesc& desc, const cuda::Context& context,
                                         int max_spans, int64_t max_rows, bool has_plans) {
  return find_prefill(desc, context.compute_capability)
      .workspace_bytes(desc, context, max_spans, max_rows, has_plans);
}

void build_prefill_attention(const cuda::Context& context, const CudaAttentionArgs& args) {
  if (args.span_count > 0)
    find_prefill(desc_of(args), context.compute_capability).build(context, args);
}

void build_prefill_plans(const cuda::Context& context, const CudaAttentionArgs& args) {
  if (args.span_count > 0 && args.plan_count > 0)
    find_prefill(desc_of(args), context.compute_capability).build_plans(context, args);
}

void run_prefill_attention(const cuda::Context& context, const CudaAttentionArgs& args) {
  if (args.span_count > 0)
    find_prefill(desc_of(args), context.compute_capability).run(context, args);
}

std::string_view prefill_attention_implementation(const AttentionDesc& desc,
                                                  const cuda::Context& context) {
  return find_prefill(desc, context.compute_capability).name;
}

uint64_t prefill_attention_pairs(const AttentionDesc& desc, const cuda::Context& context,
                                 int64_t query_offset, int64_t rows, int64_t window) {
  return find_prefill(desc, context.compute_capability).pairs(desc, query_offset, rows, window);
}

}  // namespace kvasir::kernels
