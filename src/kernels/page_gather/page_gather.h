#pragma once
// Some entries of a sequence's pages, copied into other pages one behind the other.
//
// For KV head h and i < count:  K and V of slot i of head h in `to` = those of slot
// entries[h * count + i] in `from`.

#include <cstdint>

#include "kernels/context.h"
#include "kernels/page.h"

namespace kvasir::kernels {

struct PageGatherArgs {
  PagePool pages;
  const uint32_t* from = nullptr;    // page table that covers every entry
  const uint32_t* to = nullptr;      // page table of `count` slots; shares no page with `from`
  int64_t count = 0;                 // may be 0
  const int32_t* entries = nullptr;  // [kv_heads, count]
};

// Work is dealt to context.pool by heads and pages of `to`. Copies whatever the cancel token says:
// it is short, and half a copy is of no use.
void run_page_gather(const CpuContext& context, const PageGatherArgs& args);

}  // namespace kvasir::kernels
