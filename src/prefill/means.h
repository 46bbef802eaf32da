#pragma once
// Means of keys and of queries, which stand for their blocks in estimates.

#include <cstdint>
#include <span>

#include "prefill/layer_queries.h"

namespace kvasir::prefill {

// Of the keys [first, last) of a KV head, at least one; `mean` has head_dim elements.
void mean_key(const LayerQueries& queries, int kv_head, int64_t first, int64_t last,
              std::span<float> mean);

// Of the chunk's rows [first, last) of a query head, at least one.
void mean_query(const LayerQueries& queries, int head, int64_t first, int64_t last,
                std::span<float> mean);

float product(std::span<const float> x, std::span<const float> y);

}  // namespace kvasir::prefill
