#pragma once
// What an observer of a text that is read in one step has of a layer.

#include "models/attention_observer.h"
#include "prefill/layer_queries.h"

namespace kvasir::search {

inline prefill::LayerQueries whole_layer(int layer, const kernels::AttentionArgs& args) {
  return {.layer = layer,
          .chunk = {.query_offset = 0, .rows = args.spans.front().rows},
          .q = args.q,
          .q_row_stride = args.q_row_stride,
          .q_heads = args.q_heads,
          .scale = args.scale,
          .pages = args.pages,
          .page_table = args.spans.front().page_table};
}

}  // namespace kvasir::search
