#include "models/eviction.h"

#include <numeric>

#include "kernels/page_gather/page_gather.h"

namespace kvasir::models {

void evict_entries(const compress::Compressor& compressor, const compress::EvictionSite& site,
                   int64_t count, const uint32_t* kept_table) {
  const int64_t kv_heads = site.pages.kv_heads;
  std::vector<int32_t> entries(static_cast<size_t>(kv_heads * count));
  if (count < site.entries) {
    compressor.select(site, count, entries);
  } else {
    for (int64_t head = 0; head < kv_heads; ++head)
      std::iota(entries.begin() + head * count, entries.begin() + (head + 1) * count, 0);
  }
  if (site.context->cancelled()) return;
  kernels::run_page_gather(*site.context, {.pages = site.pages,
                                           .from = site.page_table,
                                           .to = kept_table,
                                           .count = count,
                                           .entries = entries.data()});
}

}  // namespace kvasir::models
