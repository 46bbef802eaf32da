#include <algorithm>

#include "base/check.h"
#include "kernels/paged_attention/decode_attention_plan.h"

namespace kvasir::kernels {
namespace {

int tiles_of(const AttentionDesc& desc) {
  return (desc.q_heads / desc.kv_heads + kDecodeQueries - 1) / kDecodeQueries;
}

// By the host's bounds: as many as run at once, or as there can be units.
int blocks_of(const AttentionDesc& desc, const cuda::Context& context, int spans,
              int64_t max_length) {
  const int64_t units =
      (max_length + kPageTokens - 1) / kPageTokens * spans * desc.kv_heads * tiles_of(desc);
  const int64_t most = int64_t{context.multiprocessors} * kDecodeBlocks;
  return static_cast<int>(std::clamp<int64_t>(units, 1, most));
}

// Deals out a workspace part by part; counts its bytes where there is none.
class Parts {
 public:
  explicit Parts(std::byte* workspace) : workspace_(workspace) {}
  template <class T>
  T* take(int64_t count) {
    const size_t begin = bytes_;
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return workspace_ ? reinterpret_cast<T*>(workspace_ + begin) : nullptr;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* workspace_;
  size_t bytes_ = 0;
};

DecodePlan plan_of(Parts& parts, int blocks, int spans, int head_dim) {
  const int64_t partial = int64_t{blocks} * 2 * kDecodeQueries;
  DecodePlan plan;
  plan.starts = parts.take<DecodeStart>(blocks);
  plan.spans = parts.take<DecodeSpan>(spans + 2);
  plan.pages_before = parts.take<int32_t>(spans);
  plan.tickets = parts.take<uint32_t>(blocks);
  plan.group_tickets = parts.take<uint32_t>(2 * int64_t{blocks});
  plan.totals = parts.take<float2>(partial);
  plan.sums = parts.take<float>(partial * head_dim);
  return plan;
}

struct Job {
  DecodeArgs args;
  int blocks = 0;
};

Job job_of(const cuda::Context& context, const CudaAttentionArgs& attention) {
  const PagePool& pages = attention.pages;
  KVASIR_CHECK(pages.dtype != DType::kF32, "decode attention on a GPU is of 16-bit types");
  KVASIR_CHECK(pages.head_dim > 0 && pages.head_dim % 16 == 0 && pages.head_dim <= 256,
               "head_dim must be a multiple of 16 up to 256");
  KVASIR_CHECK(pages.kv_heads > 0 && attention.q_heads % pages.kv_heads == 0,
               "q_heads must be a multiple of kv_heads");
  const AttentionDesc desc{.dtype = pages.dtype,
                           .q_heads = attention.q_heads,
                           .kv_heads = pages.kv_heads,
                           .head_dim = pages.head_dim};
  const int blocks = blocks_of(desc, context, attention.span_count, attention.max_length);
  Parts parts(attention.workspace);
  constexpr float kLog2OfE = 1.44269504f;
  return {.args = {.attention = attention,
                   .plan = plan_of(parts, blocks, attention.span_count, pages.head_dim),
                   .group = attention.q_heads / pages.kv_heads,
                   .tiles = tiles_of(desc),
                   .log2_scale = attention.scale * kLog2OfE},
          .blocks = blocks};
}

}  // namespace

size_t decode_attention_workspace_bytes(const AttentionDesc& desc, const cuda::Context& context,
                                        int max_spans, int64_t max_length) {
  Parts parts(nullptr);
  plan_of(parts, blocks_of(desc, context, max_spans, max_length), max_spans, desc.head_dim);
  return parts.bytes();
}

void build_decode_attention(const cuda::Context& context, const CudaAttentionArgs& args) {
  if (args.span_count == 0) return;
  const Job job = job_of(context, args);
  launch_build_decode_attention(context, job.args, job.blocks);
}

void run_decode_attention(const cuda::Context& context, const CudaAttentionArgs& args) {
  if (args.span_count == 0) return;
  const Job job = job_of(context, args);
  launch_decode_attention(context, job.args, job.blocks);
}

uint64_t decode_attention_pairs(const AttentionDesc&, int64_t length, int64_t window) {
  if (length == 0) return 0;
  constexpr int64_t kKeys = 16;  // that are read at once
  const int64_t lowest = window > 0 ? std::max<int64_t>(length - window, 0) : 0;
  return static_cast<uint64_t>((length - 1) / kKeys - lowest / kKeys + 1) * kKeys;
}

}  // namespace kvasir::kernels
