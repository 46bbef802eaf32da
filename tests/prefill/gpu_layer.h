#pragma once
// Queries and keys with a structure that planners find, for plans on a GPU against this room's.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/gpu.h"
#include "prefill/gpu_plan.h"
#include "prefill/layer_queries.h"

namespace kvasir::prefill {

inline constexpr int kColumnsPlanted = 20, kOffsetsPlanted = 12;

// Spans in bf16 whose queries look at some keys, and at the keys some distances before their own.
struct Layer {
  Layer(const std::vector<Chunk>& chunks, int q_heads, int kv_heads, int head_dim, uint32_t seed)
      : chunks(chunks), q_heads(q_heads), kv_heads(kv_heads), head_dim(head_dim) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    int64_t rows = 0, pages = 0;
    for (const Chunk& chunk : chunks) {
      rows += chunk.rows;
      pages += (chunk.length() + 63) / 64;
    }
    q.resize(static_cast<size_t>(rows * q_heads * head_dim));
    pool.assign(static_cast<size_t>(pages * kv_heads * 2 * 64 * head_dim), 0xffff);
    table.resize(static_cast<size_t>(pages));
    std::iota(table.begin(), table.end(), 0u);
    std::shuffle(table.begin(), table.end(), random);
    spans = gpu_spans(chunks);
    int32_t page = 0;
    for (size_t i = 0; i < chunks.size(); ++i) {
      spans[i].first_page = page;
      for (int head = 0; head < kv_heads; ++head) plant(spans[i], head, random, normal);
      page += static_cast<int32_t>((chunks[i].length() + 63) / 64);
    }
  }

  uint16_t* key(const kernels::CudaAttentionSpan& span, int64_t position, int head) {
    const auto page = static_cast<size_t>(span.first_page + position / 64);
    return pool.data() + ((table[page] * kv_heads + head) * 2 * 64 + position % 64) * head_dim;
  }
  void plant(const kernels::CudaAttentionSpan& span, int kv_head, std::mt19937& random,
             std::normal_distribution<float>& normal) {
    const int64_t length = span.query_offset + span.rows;
    std::vector<float> towards(static_cast<size_t>(head_dim));
    for (float& value : towards) value = normal(random) / std::sqrt(static_cast<float>(head_dim));
    for (int64_t position = 0; position < length; ++position)
      for (int i = 0; i < head_dim; ++i)
        key(span, position, kv_head)[i] = f32_to_bf16(0.3f * normal(random));
    for (int i = 0; i < kColumnsPlanted; ++i) {
      uint16_t* const planted = key(span, static_cast<int64_t>(random() % length), kv_head);
      for (int j = 0; j < head_dim; ++j) planted[j] = f32_to_bf16(4 * towards[j]);
    }
    for (int head = kv_head * q_heads / kv_heads; head < (kv_head + 1) * q_heads / kv_heads;
         ++head) {
      std::vector<int64_t> offsets;
      for (int i = 0; i < kOffsetsPlanted; ++i)
        offsets.push_back(static_cast<int64_t>(random() % length));
      for (int64_t row = 0; row < span.rows; ++row) {
        uint16_t* const to = q.data() + ((span.first_row + row) * q_heads + head) * head_dim;
        for (int i = 0; i < head_dim; ++i) {
          float value = 8 * towards[i] + 0.1f * normal(random);
          for (const int64_t offset : offsets)
            if (span.query_offset + row >= offset)
              value += 4 * bf16_to_f32(key(span, span.query_offset + row - offset, kv_head)[i]);
          to[i] = f32_to_bf16(value);
        }
      }
    }
  }
  // Of a span, as planners on the CPU take them.
  LayerQueries queries(size_t i) {
    const kernels::CudaAttentionSpan& span = spans[i];
    return {.layer = 0,
            .chunk = chunks[i],
            .q = q.data() + int64_t{span.first_row} * q_heads * head_dim,
            .q_row_stride = int64_t{q_heads} * head_dim,
            .q_heads = q_heads,
            .scale = scale(),
            .pages = pages(pool.data()),
            .page_table = table.data() + span.first_page};
  }
  kernels::PagePool pages(uint16_t* base) const {
    return {.base = reinterpret_cast<std::byte*>(base),
            .page_bytes = page_bytes(),
            .dtype = DType::kBF16,
            .kv_heads = kv_heads,
            .head_dim = head_dim};
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(head_dim)); }
  int64_t page_bytes() const { return int64_t{kv_heads} * 2 * 64 * head_dim * 2; }

  std::vector<Chunk> chunks;
  int q_heads, kv_heads, head_dim;
  std::vector<uint16_t> q, pool;
  std::vector<uint32_t> table;
  std::vector<kernels::CudaAttentionSpan> spans;
};

// The program of one head alone.
inline PlanBuffer program_of(const PlanBuffer& plan, int head) {
  const kernels::HeadProgram program = plan.heads[static_cast<size_t>(head)];
  PlanBuffer own;
  own.segments.assign(plan.segments.begin() + program.first,
                      plan.segments.begin() + program.first + program.count);
  own.columns = plan.columns;
  own.block_bits = plan.block_bits;
  return own;
}

// Queries, keys and spans of a layer on the device.
struct GpuLayer {
  explicit GpuLayer(const Layer& layer)
      : q(layer.q), pool(layer.pool), table(layer.table), spans(layer.spans) {}
  testing::DeviceArray<uint16_t> q, pool;
  testing::DeviceArray<uint32_t> table;
  testing::DeviceArray<kernels::CudaAttentionSpan> spans;
};

}  // namespace kvasir::prefill
