#pragma once
// Eviction in a layer: which entries a span keeps, and their copies.

#include <cstdint>
#include <vector>

#include "compress/compressor.h"

namespace kvasir::models {

// Queries of rows that have none otherwise, in the last layer.
struct EvictingQueries {
  std::vector<std::byte> inputs;   // [rows, hidden] in the weights' dtype
  std::vector<float> heads;        // [rows, q_heads * head_dim]
  std::vector<float> cos_sin;      // [rows, rotary_dim]
  std::vector<std::byte> queries;  // [rows, q_heads * head_dim] in the weights' dtype
};

// Copies what `compressor` keeps of a layer into `kept_table`: all of it where count is what there
// is. Where the site's context is cancelled, the copy is unspecified.
void evict_entries(const compress::Compressor& compressor, const compress::EvictionSite& site,
                   int64_t count, const uint32_t* kept_table);

}  // namespace kvasir::models
