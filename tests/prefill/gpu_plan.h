#pragma once
// Plans that a GPU writes, read back and compared with this room's.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/attention_planner/plan_arrays.h"
#include "kernels/gpu.h"
#include "kernels/paged_attention/paged_attention_cuda.h"
#include "prefill/layer_queries.h"
#include "prefill/planner.h"

namespace kvasir::prefill {

// Arrays of exactly the sizes that are asked for.
class GpuPlan {
 public:
  GpuPlan(int spans, int q_heads, int32_t row_tile, int32_t head_segments, int32_t head_columns,
          int32_t head_words)
      : q_heads_(q_heads),
        row_tile_(row_tile),
        head_segments_(head_segments),
        head_columns_(head_columns),
        head_words_(head_words),
        programs_(heads(spans)),
        segments_(heads(spans) * head_segments),
        columns_(heads(spans) * head_columns),
        block_bits_(heads(spans) * head_words),
        reports_(heads(spans)) {}

  kernels::CudaPlanArrays arrays() const {
    return {.programs = programs_.data(),
            .segments = segments_.data(),
            .columns = columns_.data(),
            .block_bits = block_bits_.data(),
            .reports = reports_.data(),
            .head_segments = head_segments_,
            .head_columns = head_columns_,
            .head_words = head_words_,
            .row_tile = row_tile_};
  }
  size_t bytes() const {
    return segments_.size() * sizeof(kernels::PlanSegment) + 4 * columns_.size() +
           4 * block_bits_.size();
  }

  struct Read {
    int q_heads;
    std::vector<kernels::HeadProgram> programs;
    std::vector<kernels::PlanSegment> segments;
    std::vector<int32_t> columns;
    std::vector<uint32_t> block_bits;
    std::vector<kernels::HeadReport> reports;

    size_t place(int span, int head) const { return static_cast<size_t>(span * q_heads + head); }
    const kernels::HeadReport& report(int span, int head) const {
      return reports[place(span, head)];
    }
  };
  Read read() const {
    return {q_heads_,        programs_.read(),   segments_.read(),
            columns_.read(), block_bits_.read(), reports_.read()};
  }

 private:
  size_t heads(int spans) const { return static_cast<size_t>(spans * q_heads_); }

  int q_heads_;
  int32_t row_tile_, head_segments_, head_columns_, head_words_;
  testing::DeviceArray<kernels::HeadProgram> programs_;
  testing::DeviceArray<kernels::PlanSegment> segments_;
  testing::DeviceArray<int32_t> columns_;
  testing::DeviceArray<uint32_t> block_bits_;
  testing::DeviceArray<kernels::HeadReport> reports_;
};

// One after the other, without pages.
inline std::vector<kernels::CudaAttentionSpan> gpu_spans(const std::vector<Chunk>& chunks) {
  std::vector<kernels::CudaAttentionSpan> spans;
  int32_t row = 0;
  for (const Chunk& chunk : chunks) {
    spans.push_back({.first_row = row,
                     .rows = static_cast<int32_t>(chunk.rows),
                     .query_offset = static_cast<int32_t>(chunk.query_offset)});
    row += spans.back().rows;
  }
  return spans;
}

// The head's program holds the segments of `expected`, which are of one head, with the columns and
// bits that they name.
inline void expect_program(const GpuPlan::Read& found, int span, int head,
                           const PlanBuffer& expected, int64_t tiles = 0) {
  const kernels::HeadProgram program = found.programs[found.place(span, head)];
  ASSERT_EQ(program.count, std::ssize(expected.segments));
  for (int32_t i = 0; i < program.count; ++i) {
    SCOPED_TRACE(::testing::Message() << "segment " << i);
    const auto& x = expected.segments[static_cast<size_t>(i)];
    const auto& y = found.segments[static_cast<size_t>(program.first + i)];
    ASSERT_EQ(x.kind, y.kind);
    ASSERT_EQ(x.query_variant, y.query_variant);
    ASSERT_EQ(x.count, y.count);
    ASSERT_EQ(x.offset_begin, y.offset_begin);
    ASSERT_EQ(x.offset_end, y.offset_end);
    ASSERT_EQ(x.tile_begin, y.tile_begin);
    ASSERT_EQ(x.tile_end, y.tile_end);
    if (x.kind == kernels::SegmentKind::kColumns) {
      for (int32_t j = 0; j < x.count; ++j)
        ASSERT_EQ(expected.columns[static_cast<size_t>(x.first + j)],
                  found.columns[static_cast<size_t>(y.first + j)])
            << "column " << j;
    } else if (x.kind == kernels::SegmentKind::kBlocks) {
      for (int64_t j = 0; j < tiles * x.count; ++j)
        ASSERT_EQ(expected.block_bits[static_cast<size_t>(x.first + j)],
                  found.block_bits[static_cast<size_t>(y.first + j)])
            << "tile " << j / x.count << ", word " << j % x.count;
    } else {
      ASSERT_EQ(x.first, y.first);
    }
  }
}

// Of programs of blocks: row tiles, and those whose blocks are not the same.
struct Difference {
  int64_t tiles = 0, different = 0;
};

// As expect_program, for heads that have blocks or are dense; tiles may differ and are counted.
inline void compare_blocks(const GpuPlan::Read& found, int span, int head,
                           const PlanBuffer& expected, int64_t tiles, Difference& difference) {
  const kernels::HeadProgram program = found.programs[found.place(span, head)];
  ASSERT_EQ(program.count, 1);
  ASSERT_EQ(expected.segments.size(), 1u);
  const kernels::PlanSegment& x = expected.segments[0];
  const kernels::PlanSegment& y = found.segments[static_cast<size_t>(program.first)];
  ASSERT_EQ(x.kind, y.kind);
  ASSERT_EQ(x.count, y.count);
  EXPECT_EQ(found.report(span, head).is_dense, x.kind == kernels::SegmentKind::kBlocks ? 0 : 1);
  if (x.kind != kernels::SegmentKind::kBlocks) return;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const auto own = expected.block_bits.begin() + x.first + tile * x.count;
    ++difference.tiles;
    difference.different +=
        !std::equal(own, own + x.count, found.block_bits.begin() + y.first + tile * x.count);
  }
}

}  // namespace kvasir::prefill
