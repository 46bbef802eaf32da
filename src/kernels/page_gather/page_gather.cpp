#include "kernels/page_gather/page_gather.h"

#include <algorithm>
#include <cstring>

namespace kvasir::kernels {

void run_page_gather(const CpuContext& context, const PageGatherArgs& args) {
  const int64_t row_bytes =
      args.pages.head_dim * static_cast<int64_t>(dtype_bytes(args.pages.dtype));
  const int64_t plane_bytes = kPageTokens * row_bytes;
  const int64_t out_pages = (args.count + kPageTokens - 1) / kPageTokens;
  context.pool.parallel(args.pages.kv_heads * out_pages, [&](int64_t task, int) {
    const int64_t head = task / out_pages, page = task % out_pages;
    const int64_t first = page * kPageTokens;
    const int64_t last = std::min(args.count, first + kPageTokens);
    std::byte* out = args.pages.page(args.to[page]) + head * 2 * plane_bytes;
    for (int64_t i = first; i < last; ++i, out += row_bytes) {
      const int64_t entry = args.entries[head * args.count + i];
      const std::byte* in = args.pages.page(args.from[entry / kPageTokens]) +
                            head * 2 * plane_bytes + entry % kPageTokens * row_bytes;
      std::memcpy(out, in, static_cast<size_t>(row_bytes));
      std::memcpy(out + plane_bytes, in + plane_bytes, static_cast<size_t>(row_bytes));
    }
  });
}

}  // namespace kvasir::kernels
