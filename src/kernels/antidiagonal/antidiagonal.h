#pragma once
// How much attention the blocks of 128 keys get from the blocks of 128 queries of a span, estimated
// from every stride-th antidiagonal of the map of scores (XAttention, arXiv 2503.16428, section
// 2.1).
//
// With s = stride: query group a is the span's queries [s a, s a + s), key group b the keys of
// positions [s b, s b + s). For query head h
//   score[a, b] = scale / s * sum over t < s of <q[s a + s - 1 - t], k[s b + t]>
// where queries and keys that do not exist count as 0; a sees the groups b that begin no later than
// its first query: b <= (query_offset + s a) / s. Then
//   p[a, .] = softmax of score[a, .] over the groups that a sees
//   masses[h, i, j] = sum of p[a, b] over the query groups a of row tile i (queries
//                     [128 i, 128 i + 128) of the span) and the key groups b of block j (positions
//                     [128 j, 128 j + 128))
// The masses of a row tile sum up to its number of query groups. Every column that enters a pair of
// groups crosses its antidiagonal, and so do the diagonals at odd offsets; those at even ones pass
// between its points, and are noticed by what their keys have in common with the neighbours.

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/context.h"
#include "kernels/page.h"

namespace kvasir::kernels {

inline constexpr int64_t kMassBlock = 128;  // queries of a row tile, keys of a block

struct AntidiagonalArgs {
  const void* q = nullptr;  // [rows, query heads, head_dim] in pages.dtype, of the span's first row
  int64_t q_row_stride = 0;  // elements between rows
  int64_t rows = 0;          // of the span; at least 1
  int64_t query_offset = 0;  // position of the span's first query
  PagePool pages;            // f32 or bf16; positions [0, query_offset + rows) are written
  const uint32_t* page_table = nullptr;
  int kv_head = 0;
  std::span<const int32_t> heads;  // the query heads, all of kv_head
  float scale = 0;                 // positive; usually 1 / sqrt(head_dim)
  int stride = 8;                  // a power of two up to 64; 8 and 16 are the fast ones
  // [heads.size(), row tiles, mass_row_stride]; of each row one entry for every block that
  // begins before query_offset + rows is written.
  float* masses = nullptr;
  int64_t mass_row_stride = 0;     // elements
  std::byte* workspace = nullptr;  // antidiagonal_workspace_bytes(...), 64-byte aligned
};

// Of a call with `heads` query heads and at most `max_rows` rows and `max_length` keys. Shapes
// only. The map of group scores is never in memory: two numbers for each query group and block are.
size_t antidiagonal_workspace_bytes(int heads, int head_dim, int stride, int64_t max_rows,
                                    int64_t max_length, int threads);

// Reads the keys from the pages once for all heads and rows. Sums are f32, in an order that depends
// on the shapes alone: the bits are the same on every number of threads and whatever the heads
// beside. Work is dealt to context.pool by ranges of keys. Where context is cancelled the masses
// are unspecified.
void run_antidiagonal(const CpuContext& context, const AntidiagonalArgs& args,
                      Isa at_most = kEveryIsa);

// The scalar definition, in double precision inside; ignores workspace.
void run_antidiagonal_reference(const CpuContext& context, const AntidiagonalArgs& args);

// Name of the implementation that run_antidiagonal picks: "antidiagonal_amx".
std::string_view antidiagonal_implementation(const AntidiagonalArgs& args, Isa at_most = kEveryIsa);

}  // namespace kvasir::kernels
