#pragma once
// The kernel of decode attention, for any way to copy keys and values to shared memory.
//
// A block has four warps; each takes 16 keys of every page, copies them to its own ring of slots in
// shared memory some pages ahead, and keeps its own running softmax: no warp waits for another
// within a segment. Bound by bandwidth, so that all that counts is the bytes in flight.
//
// Scores and outputs are computed transposed, queries as the n = 8 operand of the tensor cores:
//   S^T [16 keys, queries] = K Q^T,  O^T [head_dim, queries] += V^T P^T.
// In a slot, K and V lie as [head_dim / 64][16 keys][128 bytes]; 16-byte chunk c of a row is at
// c ^ (key % 8), as the copy engine's 128-byte swizzle has it. head_dim is padded with zeros.

#include <type_traits>

#include "kernels/cuda_device.cuh"
#include "kernels/paged_attention/decode_attention_plan.h"

namespace kvasir::kernels::decode {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kWarpKeys = 16;
constexpr int kSliceBytes = kWarpKeys * 128;  // 64 elements of a warp's keys
constexpr int kMergedElements = 64;           // of head_dim that the warps add up at a time
constexpr unsigned kAllLanes = ~0u;

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void load_matrices(uint32_t (&a)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&a)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ uint32_t transpose_matrix(uint32_t a) {
  uint32_t result;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(a));
  return result;
}

template <class T>
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, bfloat16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// low in the lower half.
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  uint32_t result;
  if constexpr (std::is_same_v<T, bfloat16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

// Past the first-level cache: what other multiprocessors have just written.
template <class T>
__device__ __forceinline__ T read_record(const T* from) {
  static_assert(sizeof(T) % 16 == 0);
  T result;
#pragma unroll
  for (size_t i = 0; i < sizeof(T) / 16; ++i)
    reinterpret_cast<int4*>(&result)[i] = __ldcg(reinterpret_cast<const int4*>(from) + i);
  return result;
}

// A place in the order of units.
struct Cursor {
  DecodeSpan span, next;
  int index, head, page;

  __device__ __forceinline__ Cursor(const DecodePlan& plan, const DecodeStart& start)
      : span(start.span),
        next(read_record(plan.spans + start.index + 1)),
        index(start.index),
        head(start.head),
        page(start.page) {}
  __device__ __forceinline__ bool at_last_page() const { return page + 1 == span.pages; }
  // Visible keys of the page.
  __device__ __forceinline__ int first_key() const { return page == 0 ? span.first_key : 0; }
  __device__ __forceinline__ int last_key() const {
    return at_last_page() ? span.last_key : static_cast<int>(kPageTokens) - 1;
  }
  __device__ __forceinline__ bool concerns(int warp) const {
    return first_key() < (warp + 1) * kWarpKeys && last_key() >= warp * kWarpKeys;
  }
  // Whether the warp's keys are among those that the kernel before on the stream writes.
  __device__ __forceinline__ bool is_newest(int warp) const {
    return at_last_page() && span.last_key / kWarpKeys == warp;
  }
  __device__ __forceinline__ void next_segment(const DecodePlan& plan, int heads) {
    page = 0;
    if (++head < heads) return;
    head = 0;
    span = next;
    next = read_record(plan.spans + ++index + 1);
  }
  __device__ __forceinline__ void advance(const DecodePlan& plan, int heads) {
    if (++page == span.pages) next_segment(plan, heads);
  }
};

// Copies a warp's keys and values, unit after unit, into its ring.
template <class Copy, int kStages>
class Reader {
 public:
  __device__ __forceinline__ Reader(const DecodeArgs& args, const DecodeStart& start, Copy& copy,
                                    int warp, int lane)
      : args_(args),
        cursor_(args.plan, start),
        copy_(copy),
        units_(start.units),
        warp_(warp),
        lane_(lane) {
    read_page_ids();
    skip();
  }
  __device__ __forceinline__ bool is_done() const { return units_ == 0; }
  __device__ __forceinline__ bool is_newest() const { return cursor_.is_newest(warp_); }

  // The next unit with keys of this warp.
  __device__ __forceinline__ void copy_next() {
    if (cursor_.index != ids_index_ || cursor_.page < ids_page_ || cursor_.page >= ids_page_ + 32)
      read_page_ids();
    const uint32_t id = __shfl_sync(kAllLanes, ids_, cursor_.page - ids_page_);
    copy_.begin(slot_, id, cursor_.head / args_.tiles);
    slot_ = slot_ + 1 == kStages ? 0 : slot_ + 1;
    advance();
    skip();
  }

 private:
  // Those of 32 pages at once, one a lane.
  __device__ __forceinline__ void read_page_ids() {
    ids_index_ = cursor_.index;
    ids_page_ = cursor_.page;
    const int page = min(ids_page_ + lane_, cursor_.span.pages - 1);
    // A span without keys may have no pages.
    if (cursor_.span.last_key >= 0)
      ids_ = __ldcg(args_.attention.page_tables + cursor_.span.first_page + page);
  }
  __device__ __forceinline__ void advance() {
    --units_;
    cursor_.advance(args_.plan, args_.attention.pages.kv_heads * args_.tiles);
  }
  __device__ __forceinline__ void skip() {
    while (units_ > 0 && !cursor_.concerns(warp_)) advance();
  }

  const DecodeArgs& args_;
  Cursor cursor_;
  Copy& copy_;
  int units_, warp_, lane_;
  int slot_ = 0;
  uint32_t ids_ = 0;
  int ids_index_ = 0, ids_page_ = 0;
};

// The running softmax of one warp. Lane 4 g + t has, of tile i, the queries i * 8 + 2 t and
// i * 8 + 2 t + 1: of each S^T the keys g and g + 8, of each O^T the elements g and g + 8 of step.
template <class T, int kSteps, int kTiles>
struct State {
  float maximum[kTiles][2];  // in units of log2; the same in all lanes of a query
  float weights[kTiles][2];  // of this lane's keys alone
  float out[kSteps][kTiles][4];

  __device__ __forceinline__ void reset() {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      for (int i = 0; i < 2; ++i) {
        maximum[tile][i] = -INFINITY;
        weights[tile][i] = 0;
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
        for (int i = 0; i < 4; ++i) out[step][tile][i] = 0;
    }
  }

  // Adds 16 keys, of which first..last are visible; keys and values at this lane's addresses.
  __device__ __forceinline__ void add(const uint32_t (&queries)[kSteps][kTiles][2], uint32_t keys,
                                      uint32_t values, float log2_scale, int first, int last,
                                      int lane) {
    float scores[kTiles][4];
    score(queries, keys, scores);
    const int key = lane / 4;
    const bool visible[2] = {key >= first && key <= last, key + 8 >= first && key + 8 <= last};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        scores[tile][i] = visible[i / 2] ? scores[tile][i] * log2_scale : -INFINITY;
    raise_maximum(scores);

    uint32_t weights_of[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      float weight[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) weight[i] = exp2f(scores[tile][i] - maximum[tile][i % 2]);
      weights[tile][0] += weight[0] + weight[2];
      weights[tile][1] += weight[1] + weight[3];
      weights_of[tile][0] = transpose_matrix(pack<T>(weight[0], weight[1]));
      weights_of[tile][1] = transpose_matrix(pack<T>(weight[2], weight[3]));
    }
    // What lies behind the last key may be NaN, which a weight of 0 does not make 0.
    uint32_t kept[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int low = lane % 4 * 2 + i * 8;
      kept[i] = (low >= first && low <= last ? 0x0000ffffu : 0) |
                (low + 1 >= first && low + 1 <= last ? 0xffff0000u : 0);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t a[4];
      load_matrices_transposed(a, (values ^ (step % 4 * 32)) + step / 4 * kSliceBytes);
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] &= kept[i / 2];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) multiply<T>(out[step][tile], a, weights_of[tile]);
    }
  }

 private:
  __device__ __forceinline__ static void score(const uint32_t (&queries)[kSteps][kTiles][2],
                                               uint32_t keys, float (&scores)[kTiles][4]) {
    float halves[2][kTiles][4] = {};  // two chains of products, each half as long
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t a[4];
      load_matrices(a, (keys ^ (step % 4 * 32)) + step / 4 * kSliceBytes);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
        multiply<T>(halves[step % 2][tile], a, queries[step][tile]);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[tile][i] = halves[0][tile][i] + halves[1][tile][i];
  }

  __device__ __forceinline__ void raise_maximum(const float (&scores)[kTiles][4]) {
    float raised[kTiles][2];
    bool is_raised = false;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float highest = fmaxf(scores[tile][i], scores[tile][i + 2]);
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2)
          highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, offset));
        raised[tile][i] = fmaxf(maximum[tile][i], highest);
        is_raised |= raised[tile][i] > maximum[tile][i];
      }
    if (!__any_sync(kAllLanes, is_raised)) return;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      float shrink[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        shrink[i] = exp2f(maximum[tile][i] - raised[tile][i]);
        maximum[tile][i] = raised[tile][i];
        weights[tile][i] *= shrink[i];
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i) out[step][tile][i] *= shrink[i % 2];
    }
  }
};

// What the warps exchange at the end of a segment.
template <int kTiles>
struct Exchange {
  // Padded: the lanes of a store meet no bank twice.
  float out[kWarps][kTiles * 8][kMergedElements + 4];
  float2 totals[kWarps][kTiles * 8];
  uint32_t done;
};

// Where a span and head's queries and results lie.
struct Segment {
  int row, first_head, queries;

  __device__ __forceinline__ Segment(const DecodeArgs& args, const Cursor& cursor)
      : row(cursor.span.first_row),
        first_head(cursor.head / args.tiles * args.group +
                   cursor.head % args.tiles * kDecodeQueries),
        queries(min(args.group - cursor.head % args.tiles * kDecodeQueries, kDecodeQueries)) {}
};

// Blocks that share a segment.
struct Share {
  int first = 0;
  int count = 1;  // 1: whole in this block

  // `done`: units of this block before the segment's; `page`: the segment's first in this block.
  __device__ __forceinline__ Share(const DecodeStart& start, int done, int page, int pages) {
    // Block b begins with unit floor(b * all_units / blocks).
    const auto owner = [&](int64_t unit) {
      return static_cast<int>(((unit + 1) * start.blocks - 1) / start.all_units);
    };
    const int64_t first_unit = blockIdx.x * start.all_units / start.blocks + done - page;
    first = owner(first_unit);
    count = owner(first_unit + pages - 1) - first + 1;
  }
  Share() = default;
};

// What a sum of weights relative to `maximum` is worth relative to `highest`; 0 without keys.
__device__ __forceinline__ float rescale(float maximum, float highest) {
  return maximum == -INFINITY ? 0 : exp2f(maximum - highest);
}

template <class T>
__device__ __forceinline__ void write_result(const DecodeArgs& args, const Segment& segment,
                                             int query, int element, float4 sum, float maximum,
                                             float weights) {
  const CudaAttentionArgs& attention = args.attention;
  const float inverse = weights > 0 ? 1 / weights : 0;
  const uint2 packed = {pack<T>(sum.x * inverse, sum.y * inverse),
                        pack<T>(sum.z * inverse, sum.w * inverse)};
  T* out = static_cast<T*>(attention.out) + segment.row * attention.out_row_stride +
           int64_t{segment.first_head + query} * attention.pages.head_dim + element;
  *reinterpret_cast<uint2*>(out) = packed;
  if (element == 0 && attention.lse)
    attention.lse[int64_t{segment.row} * attention.q_heads + segment.first_head + query] =
        (maximum + log2f(weights)) * 0.693147181f;
}

// Adds up what the blocks of a segment have left, in their order.
template <class T>
__device__ __forceinline__ void merge_blocks(const DecodeArgs& args, const Segment& segment,
                                             const Share& share) {
  constexpr int kAtOnce = 8;
  const int head_dim = args.attention.pages.head_dim, vectors = head_dim / 4;
  for (int i = static_cast<int>(threadIdx.x); i < segment.queries * vectors; i += kThreads) {
    const int query = i / vectors, element = i % vectors * 4;
    float4 sum{};
    float maximum = -INFINITY, weights = 0;
    for (int begin = 0; begin < share.count; begin += kAtOnce) {
      float2 totals[kAtOnce];
      float4 sums[kAtOnce];
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        totals[j] = {-INFINITY, 0};
        sums[j] = {};
        if (begin + j >= share.count) continue;
        const int64_t slot = 2 * int64_t{share.first + begin + j} + (begin + j == 0);
        const int64_t row = slot * kDecodeQueries + query;
        totals[j] = __ldcg(args.plan.totals + row);
        sums[j] =
            __ldcg(reinterpret_cast<const float4*>(args.plan.sums + row * head_dim + element));
      }
      float raised = maximum;
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) raised = fmaxf(raised, totals[j].x);
      const float shrink = exp2f(maximum - raised);
      maximum = raised;
      weights *= shrink;
      sum = {sum.x * shrink, sum.y * shrink, sum.z * shrink, sum.w * shrink};
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const float factor = exp2f(totals[j].x - maximum);
        weights += totals[j].y * factor;
        sum.x += sums[j].x * factor;
        sum.y += sums[j].y * factor;
        sum.z += sums[j].z * factor;
        sum.w += sums[j].w * factor;
      }
    }
    write_result<T>(args, segment, query, element, sum, maximum, weights);
  }
}

// Adds up what the warps have, and writes the result, or leaves it for the segment's last block.
// All threads of the block call this together.
template <class T, int kSteps, int kTiles>
__device__ __forceinline__ void finish(const DecodeArgs& args, const Segment& segment,
                                       const Share& share, State<T, kSteps, kTiles>& state,
                                       Exchange<kTiles>& exchange, int warp, int lane) {
  const int column = lane % 4 * 2;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float& weights = state.weights[tile][i];
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2)
        weights += __shfl_xor_sync(kAllLanes, weights, offset);
      if (lane < 4)
        exchange.totals[warp][tile * 8 + column + i] = {state.maximum[tile][i], weights};
    }
  __syncthreads();
  const auto highest = [&](int query) {
    float maximum = -INFINITY;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) maximum = fmaxf(maximum, exchange.totals[i][query].x);
    return maximum;
  };
  float factor[kTiles][2];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      factor[tile][i] = rescale(state.maximum[tile][i], highest(tile * 8 + column + i));

  const int block = static_cast<int>(blockIdx.x);
  const int64_t slot = (2 * int64_t{block} + (block == share.first)) * kDecodeQueries;
  const int head_dim = args.attention.pages.head_dim;
#pragma unroll
  for (int chunk = 0; chunk < kSteps * 16; chunk += kMergedElements) {
    if (chunk >= head_dim) break;
#pragma unroll
    for (int step = 0; step < kMergedElements / 16; ++step)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          exchange.out[warp][tile * 8 + column + i % 2][step * 16 + lane / 4 + i / 2 * 8] =
              state.out[chunk / 16 + step][tile][i] * factor[tile][i % 2];
    __syncthreads();
    const int vectors = min(kMergedElements, head_dim - chunk) / 4;
    for (int i = static_cast<int>(threadIdx.x); i < segment.queries * vectors; i += kThreads) {
      const int query = i / vectors, element = i % vectors * 4;
      const float maximum = highest(query);
      float4 sum{};
      float weights = 0;
#pragma unroll
      for (int j = 0; j < kWarps; ++j) {
        const float4 part = *reinterpret_cast<const float4*>(&exchange.out[j][query][element]);
        const float2 totals = exchange.totals[j][query];
        weights += totals.y * rescale(totals.x, maximum);
        sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
      }
      if (share.count == 1) {
        write_result<T>(args, segment, query, chunk + element, sum, maximum, weights);
        continue;
      }
      *reinterpret_cast<float4*>(args.plan.sums + (slot + query) * head_dim + chunk + element) =
          sum;
      if (chunk + element == 0) args.plan.totals[slot + query] = {maximum, weights};
    }
    __syncthreads();
  }
  if (share.count == 1) return;

  if (threadIdx.x == 0) {
    uint32_t* ticket = args.plan.tickets + share.first;
    __threadfence();
    exchange.done = atomicAdd(ticket, 1) + 1;
    if (exchange.done == static_cast<uint32_t>(share.count)) *ticket = 0;  // for the next run
    __threadfence();
  }
  __syncthreads();
  if (exchange.done == static_cast<uint32_t>(share.count)) merge_blocks<T>(args, segment, share);
}

template <class T, int kSteps, int kTiles>
__device__ __forceinline__ void read_queries(uint32_t (&queries)[kSteps][kTiles][2],
                                             const DecodeArgs& args, const Segment& segment,
                                             int lane) {
  const CudaAttentionArgs& attention = args.attention;
  const int head_dim = attention.pages.head_dim;
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int query = tile * 8 + lane / 4;
    const T* q = static_cast<const T*>(attention.q) + segment.row * attention.q_row_stride +
                 int64_t{segment.first_head + query} * head_dim + lane % 4 * 2;
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        queries[step][tile][i] = query < segment.queries && step * 16 < head_dim
                                     ? *reinterpret_cast<const uint32_t*>(q + step * 16 + i * 8)
                                     : 0;
  }
}

template <int kSteps>
constexpr int slot_bytes() {
  return kSteps / 4 * 2 * kSliceBytes;
}
// Keys and values of all warps first: they must be aligned to 1024 bytes.
template <class Copy, int kSteps, int kTiles, int kStages>
constexpr int shared_bytes() {
  return kWarps * kStages * (slot_bytes<kSteps>() + Copy::kBarrierBytes) +
         static_cast<int>(sizeof(Exchange<kTiles>));
}

template <class T, int kSteps, int kTiles, int kStages, int kBlocksPerMultiprocessor, class Copy>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    attend(const __grid_constant__ DecodeArgs args,
           const __grid_constant__ typename Copy::Source source) {
  extern __shared__ __align__(1024) std::byte shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  std::byte* ring = shared + warp * kStages * slot_bytes<kSteps>();
  auto& exchange =
      *reinterpret_cast<Exchange<kTiles>*>(shared + kWarps * kStages * slot_bytes<kSteps>());

  // The plan and the page tables were complete before the kernel before this one began, and so
  // were all keys but the newest of each span.
  const DecodeStart start = read_record(args.plan.starts + blockIdx.x);
  if (start.units == 0) {
    wait_for_inputs();  // the next kernel takes this one's end for the end of all before it
    return;
  }
  Copy copy(args, source, ring, reinterpret_cast<std::byte*>(&exchange + 1), warp, lane);
  Reader<Copy, kStages> reader(args, start, copy, warp, lane);
  int begun = 0;
  for (; begun < kStages && !reader.is_done() && !reader.is_newest(); ++begun) reader.copy_next();
  wait_for_inputs();
  let_next_begin();
  for (; begun < kStages; ++begun) {
    if (!reader.is_done())
      reader.copy_next();
    else
      copy.skip();
  }

  const int heads = args.attention.pages.kv_heads * args.tiles;
  const uint32_t row = static_cast<uint32_t>(lane) % 16, chunk = static_cast<uint32_t>(lane) / 16;
  const uint32_t keys = shared_address(ring) + row * 128 + ((chunk ^ row % 8) << 4);
  const uint32_t value_row = lane % 8 + lane / 16 * 8, value_chunk = lane / 8 % 2;
  const uint32_t values = shared_address(ring) + slot_bytes<kSteps>() / 2 + value_row * 128 +
                          ((value_chunk ^ value_row % 8) << 4);
  Cursor cursor(args.plan, start);
  State<T, kSteps, kTiles> state;
  uint32_t queries[kSteps][kTiles][2];
  read_queries<T>(queries, args, Segment(args, cursor), lane);
  int slot = 0;
  uint32_t parity = 0;
  for (int done = 0; done < start.units;) {
    const int first_page = cursor.page, all_pages = cursor.span.pages;
    const int pages = min(start.units - done, all_pages - first_page);
    state.reset();
    for (int i = 0; i < pages; ++i, ++cursor.page) {
      if (!cursor.concerns(warp)) continue;
      copy.wait(slot, parity);
      state.add(queries, keys + slot * slot_bytes<kSteps>(), values + slot * slot_bytes<kSteps>(),
                args.log2_scale, cursor.first_key() - warp * kWarpKeys,
                cursor.last_key() - warp * kWarpKeys, lane);
      __syncwarp();
      if (!reader.is_done())
        reader.copy_next();
      else
        copy.skip();
      if (++slot == kStages) {
        slot = 0;
        parity ^= 1;
      }
    }
    --cursor.page;
    const Segment segment(args, cursor);
    const Share share = pages == all_pages ? Share() : Share(start, done, first_page, all_pages);
    done += pages;
    if (done < start.units) {
      cursor.next_segment(args.plan, heads);
      read_queries<T>(queries, args, Segment(args, cursor), lane);
    }
    finish(args, segment, share, state, exchange, warp, lane);
  }
}

template <class T, int kSteps, int kTiles, int kStages, int kBlocksPerMultiprocessor, class Copy>
void launch_attend(const cuda::Context& context, const DecodeArgs& args, int blocks,
                   const typename Copy::Source& source) {
  constexpr int kBytes = shared_bytes<Copy, kSteps, kTiles, kStages>();
  const auto kernel = attend<T, kSteps, kTiles, kStages, kBlocksPerMultiprocessor, Copy>;
  KVASIR_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  launch(context, kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), kBytes, args,
         source);
}

// Calls use.operator()<T, kSteps, kTiles>() with the type, head_dim / 16 rounded up to what is
// compiled, and the tiles of 8 queries of a unit.
template <class Use>
void with_shape(const DecodeArgs& args, Use&& use) {
  const auto with_steps = [&]<class T, int kSteps>() {
    if (args.group > 8) return use.template operator()<T, kSteps, 2>();
    return use.template operator()<T, kSteps, 1>();
  };
  const auto with_element = [&]<class T>() {
    const int head_dim = args.attention.pages.head_dim;
    if (head_dim <= 64) return with_steps.template operator()<T, 4>();
    if (head_dim <= 128) return with_steps.template operator()<T, 8>();
    return with_steps.template operator()<T, 16>();
  };
  if (args.attention.pages.dtype == DType::kBF16)
    return with_element.template operator()<bfloat16>();
  return with_element.template operator()<float16>();
}

}  // namespace kvasir::kernels::decode
