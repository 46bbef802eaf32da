// Decode attention. A block has four warps; each takes 16 keys of every page, copies them to its
// own ring of slots in shared memory some pages ahead, and keeps its own running softmax, so that
// no warp waits for another within a segment. Bound by bandwidth: what counts is that enough bytes
// are in flight at any time. With a full ring a read takes microseconds, so whatever the next
// segment needs (page ids, queries) is read during the one before.

#include "kernels/paged_attention/decode_attention_plan.h"
#include "kernels/paged_attention/decode_attention_state.cuh"

namespace kvasir::kernels {
namespace {

using namespace decode;

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;

// Slots of a warp's ring: of two pages of 128 elements a head. More gain nothing on an H100, and
// two blocks fit into an A100, one into GPUs that have 99 KB of shared memory.
template <int kSteps>
constexpr int kSlots = 16 / kSteps;

// Past the first-level cache, which may hold what was there before.
template <class T>
__device__ __forceinline__ T read_record(const T* from) {
  static_assert(sizeof(T) % 16 == 0);
  T result;
#pragma unroll
  for (size_t i = 0; i < sizeof(T) / 16; ++i)
    reinterpret_cast<int4*>(&result)[i] = __ldcg(reinterpret_cast<const int4*>(from) + i);
  return result;
}

// Nearly always there is one tile, and a division is a lot.
__device__ __forceinline__ int kv_head_of(const DecodeArgs& args, int head) {
  return args.tiles == 1 ? head : head / args.tiles;
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

// The page ids of a span from `page` on, one a lane.
struct PageIds {
  static constexpr int kCount = 32;
  int index = -1, page = 0;
  uint32_t id = 0;

  __device__ __forceinline__ bool covers(const Cursor& cursor) const {
    return index == cursor.index && page <= cursor.page && cursor.page < page + kCount;
  }
  __device__ __forceinline__ void read(const uint32_t* page_tables, const DecodeSpan& span,
                                       int span_index, int from, int lane) {
    index = span_index;
    page = from;
    // A span without keys has no page.
    if (span.last_key >= 0)
      id = __ldcg(page_tables + span.first_page + min(from + lane, span.pages - 1));
  }
};

// Copies a warp's keys and values into its ring, unit after unit.
template <int kSteps>
class Reader {
 public:
  __device__ __forceinline__ Reader(const DecodeArgs& args, const DecodeStart& start, uint32_t ring,
                                    int warp, int lane)
      : args_(args),
        pages_(args.attention.pages),
        cursor_(args.plan, start),
        units_(start.units),
        warp_(warp),
        lane_(lane),
        row_(lane / 8),
        chunk_(lane % 8),
        lane_offset_(static_cast<int64_t>(warp * kWarpKeys + row_) * pages_.head_dim * 2 +
                     chunk_ * 16),
        ring_(ring) {
    read_page_ids();
    skip();
  }
  // Whether the next unit's keys of this warp must not be read yet: those of the newest position
  // are written by the kernel before on the stream.
  __device__ __forceinline__ bool is_newest() const {
    return units_ > 0 && cursor_.is_newest(warp_);
  }

  // Begins to copy the next unit with keys of this warp, if there is one.
  __device__ __forceinline__ void copy_next() {
    if (units_ > 0) {
      if (!ids_.covers(cursor_)) read_page_ids();
      const uint32_t id = __shfl_sync(kAllLanes, ids_.id, cursor_.page - ids_.page);
      copy(pages_.base + int64_t{id} * pages_.page_bytes, kv_head_of(args_, cursor_.head));
      slot_ = slot_ + 1 == kSlots<kSteps> ? 0 : slot_ + 1;
      advance();
      skip();
    }
    // Also an empty group counts, so that there are always as many as slots.
    commit_copies();
  }
  // Until the oldest copy is there.
  __device__ __forceinline__ void wait() {
    wait_for_copies<kSlots<kSteps> - 1>();
    __syncwarp();
  }

 private:
  __device__ __forceinline__ void copy(const std::byte* page, int kv_head) {
    const int row_bytes = pages_.head_dim * 2;
    const int64_t piece_bytes = kPageTokens * row_bytes;
    const std::byte* from = page + kv_head * 2 * piece_bytes + lane_offset_;
    const uint32_t to = ring_ + slot_ * slot_bytes<kSteps>();
#pragma unroll
    for (int part = 0; part < 2; ++part)
#pragma unroll
      for (int slice = 0; slice < kSteps / 4; ++slice)
#pragma unroll
        for (int i = 0; i < kWarpKeys; i += 4) {
          const uint32_t row = row_ + i;
          const int bytes = slice * 64 + chunk_ * 8 < pages_.head_dim ? 16 : 0;  // else zeros
          asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(
                           to + (part * (kSteps / 4) + slice) * kSliceBytes + row * 128 +
                           (chunk_ ^ row % 8) * 16),
                       "l"(from + part * piece_bytes + i * row_bytes + slice * 128), "r"(bytes)
                       : "memory");
        }
  }

  // And begins to read those that come after.
  __device__ __forceinline__ void read_page_ids() {
    const uint32_t* tables = args_.attention.page_tables;
    if (next_ids_.covers(cursor_))
      ids_ = next_ids_;
    else
      ids_.read(tables, cursor_.span, cursor_.index, cursor_.page, lane_);
    const int after = ids_.page + PageIds::kCount;
    if (after < cursor_.span.pages)
      next_ids_.read(tables, cursor_.span, cursor_.index, after, lane_);
    else if (cursor_.head + 1 < heads() && ids_.page > 0)
      next_ids_.read(tables, cursor_.span, cursor_.index, 0, lane_);
    else
      next_ids_.read(tables, cursor_.next, cursor_.index + 1, 0, lane_);
  }
  __device__ __forceinline__ int heads() const { return pages_.kv_heads * args_.tiles; }
  __device__ __forceinline__ void advance() {
    --units_;
    cursor_.advance(args_.plan, heads());
  }
  __device__ __forceinline__ void skip() {
    while (units_ > 0 && !cursor_.concerns(warp_)) advance();
  }

  const DecodeArgs& args_;
  const PagePool& pages_;
  Cursor cursor_;
  PageIds ids_, next_ids_;
  int units_, warp_, lane_, slot_ = 0;
  uint32_t row_, chunk_;
  int64_t lane_offset_;
  uint32_t ring_;
};

// Where a span and head's queries and results lie.
struct Segment {
  int row, first_head, queries;

  __device__ __forceinline__ Segment(const DecodeArgs& args, const DecodeSpan& span, int head)
      : row(span.first_row) {
    const int kv_head = kv_head_of(args, head);
    const int before = (head - kv_head * args.tiles) * kDecodeQueries;
    first_head = kv_head * args.group + before;
    queries = min(args.group - before, kDecodeQueries);
  }
  __device__ __forceinline__ Segment(const DecodeArgs& args, const Cursor& cursor)
      : Segment(args, cursor.span, cursor.head) {}
};

// A segment's queries on their way to shared memory, in the registers of all threads.
template <class T, int kSteps, int kTiles>
class QueriesInFlight {
 public:
  __device__ __forceinline__ void read(const DecodeArgs& args, const Segment& segment) {
    const CudaAttentionArgs& attention = args.attention;
    const int head_dim = attention.pages.head_dim;
    const T* q = static_cast<const T*>(attention.q) + segment.row * attention.q_row_stride +
                 int64_t{segment.first_head} * head_dim;
    each([&](int i, int query, int element) {
      vectors_[i] = query < segment.queries && element < head_dim
                        ? __ldcg(reinterpret_cast<const int4*>(q + query * head_dim + element))
                        : int4{};
    });
  }
  __device__ __forceinline__ void write(std::byte* shared) const {
    each([&](int i, int query, int element) {
      *reinterpret_cast<int4*>(shared + query * Queries<kSteps, kTiles>::kRowBytes + element * 2) =
          vectors_[i];
    });
  }

 private:
  static constexpr int kRowVectors = kSteps * 2, kVectors = kTiles * 8 * kRowVectors;
  static constexpr int kOfAThread = (kVectors + kThreads - 1) / kThreads;

  template <class Use>
  __device__ __forceinline__ static void each(Use&& use) {
#pragma unroll
    for (int i = 0; i < kOfAThread; ++i) {
      const int at = i * kThreads + static_cast<int>(threadIdx.x);
      if (at < kVectors) use(i, at / kRowVectors, at % kRowVectors * 8);
    }
  }

  int4 vectors_[kOfAThread];
};

// What the warps exchange at the end of a segment.
template <int kTiles>
struct Exchange {
  static constexpr int kElements = 64 / kTiles;  // of head_dim at a time

  // Padded: the lanes of a store meet no bank twice.
  float out[kWarps][kTiles * 8][kElements + 4];
  float2 totals[kWarps][kTiles * 8];  // maximum in units of log2, sum of weights
  float2 all[kTiles * 8];             // the same of all warps
  uint32_t done;
};

// What a sum of weights relative to `maximum` is worth relative to `highest`; 0 without keys.
__device__ __forceinline__ float rescale(float maximum, float highest) {
  return maximum == -INFINITY ? 0 : fast_exp2(maximum - highest);
}

template <class T>
__device__ __forceinline__ void write_result(const DecodeArgs& args, const Segment& segment,
                                             int query, int element, float4 sum, float2 total) {
  const CudaAttentionArgs& attention = args.attention;
  const float inverse = total.y > 0 ? 1 / total.y : 0;
  T* out = static_cast<T*>(attention.out) + segment.row * attention.out_row_stride +
           int64_t{segment.first_head + query} * attention.pages.head_dim + element;
  *reinterpret_cast<uint2*>(out) = {pack_pair<T>(sum.x * inverse, sum.y * inverse),
                                    pack_pair<T>(sum.z * inverse, sum.w * inverse)};
  constexpr float kLogOf2 = 0.693147181f;
  if (element == 0 && attention.lse)
    attention.lse[int64_t{segment.row} * attention.q_heads + segment.first_head + query] =
        (total.x + log2f(total.y)) * kLogOf2;
}

// Reads of partial results in flight. A segment of 8 heads alone on 132 multiprocessors is shared
// by 33 blocks, which are added up in two rounds.
constexpr int kMergedAtOnce = 17;

// Partial results of blocks `stride` apart.
struct Partials {
  int first_of_segment, first, stride, count;

  __device__ __forceinline__ int64_t row(int i, int query) const {
    const int block = first + i * stride;
    return (2 * int64_t{block} + (block == first_of_segment)) * kDecodeQueries + query;
  }
};

// Adds up partial results in their order and calls use(query, element, sum, total) for each four
// elements.
template <class Use>
__device__ __forceinline__ void merge(const DecodeArgs& args, const Segment& segment,
                                      const Partials& partials, Use&& use) {
  const int head_dim = args.attention.pages.head_dim, vectors = head_dim / 4;
  for (int i = static_cast<int>(threadIdx.x); i < segment.queries * vectors; i += kThreads) {
    const int query = i / vectors, element = i % vectors * 4;
    float4 sum{};
    float2 total{-INFINITY, 0};
    for (int begin = 0; begin < partials.count; begin += kMergedAtOnce) {
      float2 totals[kMergedAtOnce];
      float4 sums[kMergedAtOnce];
#pragma unroll
      for (int j = 0; j < kMergedAtOnce; ++j) {
        totals[j] = {-INFINITY, 0};
        sums[j] = {};
        if (begin + j >= partials.count) continue;
        const int64_t row = partials.row(begin + j, query);
        totals[j] = __ldcg(args.plan.totals + row);
        sums[j] =
            __ldcg(reinterpret_cast<const float4*>(args.plan.sums + row * head_dim + element));
      }
      const float before = total.x;
#pragma unroll
      for (int j = 0; j < kMergedAtOnce; ++j) total.x = fmaxf(total.x, totals[j].x);
      const float shrink = fast_exp2(before - total.x);
      total.y *= shrink;
      sum = {sum.x * shrink, sum.y * shrink, sum.z * shrink, sum.w * shrink};
#pragma unroll
      for (int j = 0; j < kMergedAtOnce; ++j) {
        const float factor = fast_exp2(totals[j].x - total.x);
        total.y += totals[j].y * factor;
        sum.x += sums[j].x * factor;
        sum.y += sums[j].y * factor;
        sum.z += sums[j].z * factor;
        sum.w += sums[j].w * factor;
      }
    }
    use(query, element, sum, total);
  }
}

// Whether this block is the last of `count` to come here, with what the others wrote before
// visible. The ticket is 0 again then. All threads call this.
__device__ __forceinline__ bool is_last(uint32_t* ticket, int count, uint32_t& shared) {
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t before;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
                 : "=r"(before)
                 : "l"(ticket)
                 : "memory");
    shared = before + 1;
    if (shared == static_cast<uint32_t>(count)) *ticket = 0;
  }
  __syncthreads();
  return shared == static_cast<uint32_t>(count);
}

// This block has left its partial result; whoever is last adds all up. Where they are many, the
// last of each group of blocks adds up the group's first, in place of the group's first result. All
// threads call this.
template <class T, int kTiles>
__device__ __forceinline__ void merge_blocks(const DecodeArgs& args, const Segment& segment,
                                             const DecodeShare& share, Exchange<kTiles>& exchange) {
  Partials partials{share.first, share.first, 1, share.count};
  if (share.count > 2 * kMergedAtOnce) {
    const int group = (static_cast<int>(blockIdx.x) - share.first) / kMergedAtOnce;
    Partials members = partials;
    members.first += group * kMergedAtOnce;
    members.count = min(kMergedAtOnce, share.count - group * kMergedAtOnce);
    uint32_t* ticket = args.plan.group_tickets + 2 * int64_t{members.first} + (group == 0);
    if (!is_last(ticket, members.count, exchange.done)) return;
    merge(args, segment, members, [&](int query, int element, float4 sum, float2 total) {
      const int64_t row = members.row(0, query);
      *reinterpret_cast<float4*>(args.plan.sums + row * args.attention.pages.head_dim + element) =
          sum;
      if (element == 0) exchange.all[query] = total;
    });
    __syncthreads();
    const int query = static_cast<int>(threadIdx.x);
    if (query < segment.queries) args.plan.totals[members.row(0, query)] = exchange.all[query];
    partials.stride = kMergedAtOnce;
    partials.count = (share.count + kMergedAtOnce - 1) / kMergedAtOnce;
  }
  if (!is_last(args.plan.tickets + share.first, partials.count, exchange.done)) return;
  merge(args, segment, partials, [&](int query, int element, float4 sum, float2 total) {
    write_result<T>(args, segment, query, element, sum, total);
  });
}

// Leaves each warp's maxima and sums of weights in `exchange`, and those of all warps a barrier
// later; `factors` is what this warp's are worth relative to all.
template <class T, int kSteps, int kTiles>
__device__ __forceinline__ void exchange_totals(const State<T, kSteps, kTiles>& state,
                                                Exchange<kTiles>& exchange,
                                                float (&factors)[kTiles][2]) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const auto query_of = [&](int tile, int i) { return tile * 8 + lane % 4 * 2 + i; };
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float weights = state.weights[tile][i];
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2)
        weights += __shfl_xor_sync(kAllLanes, weights, offset);
      if (lane < 4) exchange.totals[warp][query_of(tile, i)] = {state.maximum[tile][i], weights};
    }
  __syncthreads();
  const auto highest = [&](int query) {
    float maximum = -INFINITY;
#pragma unroll
    for (int i = 0; i < kWarps; ++i) maximum = fmaxf(maximum, exchange.totals[i][query].x);
    return maximum;
  };
  if (thread < kTiles * 8) {
    float2 total{highest(thread), 0};
#pragma unroll
    for (int i = 0; i < kWarps; ++i) {
      const float2 part = exchange.totals[i][thread];
      total.y += part.y * rescale(part.x, total.x);
    }
    exchange.all[thread] = total;
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      factors[tile][i] = rescale(state.maximum[tile][i], highest(query_of(tile, i)));
}

// Adds up what the warps have, and writes the result, or leaves it for the segment's last block.
// Meanwhile the next segment's queries take the place of this one's. All threads call this.
template <class T, int kSteps, int kTiles>
__device__ __forceinline__ void finish(const DecodeArgs& args, const Segment& segment,
                                       const DecodeShare& share,
                                       const State<T, kSteps, kTiles>& state,
                                       Exchange<kTiles>& exchange,
                                       const QueriesInFlight<T, kSteps, kTiles>& next_queries,
                                       std::byte* queries) {
  float factors[kTiles][2];
  exchange_totals(state, exchange, factors);
  next_queries.write(queries);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int block = static_cast<int>(blockIdx.x);
  const int64_t slot = (2 * int64_t{block} + (block == share.first)) * kDecodeQueries;
  const int head_dim = args.attention.pages.head_dim;
  constexpr int kElements = Exchange<kTiles>::kElements, kVectors = kElements / 4;
#pragma unroll
  for (int chunk = 0; chunk < kSteps * 16; chunk += kElements) {
    if (chunk >= head_dim) break;
    if (chunk > 0) __syncthreads();
#pragma unroll
    for (int step = 0; step < kElements / 16; ++step)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          exchange.out[warp][tile * 8 + lane % 4 * 2 + i % 2][step * 16 + lane / 4 + i / 2 * 8] =
              state.out[chunk / 16 + step][tile][i] * factors[tile][i % 2];
    __syncthreads();
    for (int i = thread; i < segment.queries * kVectors; i += kThreads) {
      const int query = i / kVectors, element = i % kVectors * 4;
      if (chunk + element >= head_dim) continue;
      float4 sum{};
#pragma unroll
      for (int j = 0; j < kWarps; ++j) {
        const float4 part = *reinterpret_cast<const float4*>(&exchange.out[j][query][element]);
        sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
      }
      const float2 total = exchange.all[query];
      if (share.count == 1) {
        write_result<T>(args, segment, query, chunk + element, sum, total);
        continue;
      }
      float* sums = args.plan.sums + (slot + query) * head_dim + chunk + element;
      *reinterpret_cast<float4*>(sums) = sum;
      if (chunk + element == 0) args.plan.totals[slot + query] = total;
    }
  }
  if (share.count == 1)
    __syncthreads();  // `exchange` is free again
  else
    merge_blocks<T>(args, segment, share, exchange);
}

// Keys and values first: their slots are aligned to 1024 bytes. At least so much that no third
// block fits into the shared memory of a multiprocessor: if one had three and another one, it would
// be last.
template <int kSteps, int kTiles>
constexpr int shared_bytes() {
  const int needed = kWarps * kSlots<kSteps> * slot_bytes<kSteps>() +
                     Queries<kSteps, kTiles>::kBytes + static_cast<int>(sizeof(Exchange<kTiles>));
  constexpr int kLeast = 80 * 1024;
  return needed < kLeast ? kLeast : needed;
}

// Registers for a third block where that is possible: the next kernel on the stream finds room to
// begin beside this one.
template <class T, int kSteps, int kTiles>
__global__ void __launch_bounds__(kThreads, kDecodeBlocks + (kSteps * kTiles <= 8))
    attend(const __grid_constant__ DecodeArgs args) {
  constexpr int kSlotBytes = slot_bytes<kSteps>(), kRingBytes = kSlots<kSteps> * kSlotBytes;
  extern __shared__ __align__(1024) std::byte shared[];
  std::byte* shared_queries = shared + kWarps * kRingBytes;
  auto& exchange =
      *reinterpret_cast<Exchange<kTiles>*>(shared_queries + Queries<kSteps, kTiles>::kBytes);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t ring = shared_address(shared) + warp * kRingBytes;

  // The plan was written before any kernel after build_decode_attention began, and what had been
  // there before that, the page tables and all keys but the newest of each span, is there too.
  const DecodeStart start = read_record(args.plan.starts + blockIdx.x);
  if (start.units == 0) {
    wait_for_inputs();  // the next kernel takes this one's end for the end of all before it
    return;
  }
  Reader<kSteps> reader(args, start, ring, warp, lane);
  int begun = 0;
  for (; begun < kSlots<kSteps> && !reader.is_newest(); ++begun) reader.copy_next();
  wait_for_inputs();
  let_next_begin();
  Cursor cursor(args.plan, start);
  QueriesInFlight<T, kSteps, kTiles> next_queries;
  next_queries.read(args, Segment(args, cursor));
  for (; begun < kSlots<kSteps>; ++begun) reader.copy_next();
  next_queries.write(shared_queries);
  __syncthreads();

  const uint32_t row = lane % 16, chunk = lane / 16;
  const uint32_t value_row = lane % 8 + lane / 16 * 8, value_chunk = lane / 8 % 2;
  const uint32_t keys = ring + row * 128 + (chunk ^ row % 8) * 16;
  const uint32_t values =
      ring + kSlotBytes / 2 + value_row * 128 + (value_chunk ^ value_row % 8) * 16;
  const int heads = args.attention.pages.kv_heads * args.tiles;
  Queries<kSteps, kTiles> queries(shared_address(shared_queries), lane);
  State<T, kSteps, kTiles> state;
  int slot = 0;
  for (int done = 0; done < start.units;) {
    const int all_pages = cursor.span.pages;
    const int pages = min(start.units - done, all_pages - cursor.page);
    const Segment segment(args, cursor);
    const DecodeShare share = pages == all_pages ? DecodeShare{}
                              : done == 0        ? start.first_share
                                                 : start.last_share;
    done += pages;
    if (done < start.units)
      next_queries.read(args, cursor.head + 1 < heads ? Segment(args, cursor.span, cursor.head + 1)
                                                      : Segment(args, cursor.next, 0));
    queries.load();
    state.reset();
    for (int i = 0; i < pages; ++i) {
      if (cursor.concerns(warp)) {
        reader.wait();
        const int first = warp * kWarpKeys;
        state.add(queries, keys + slot * kSlotBytes, values + slot * kSlotBytes, args.log2_scale,
                  cursor.first_key() - first, cursor.last_key() - first, lane);
        __syncwarp();
        reader.copy_next();
        slot = slot + 1 == kSlots<kSteps> ? 0 : slot + 1;
      }
      cursor.advance(args.plan, heads);
    }
    finish(args, segment, share, state, exchange, next_queries, shared_queries);
  }
}

template <class T, int kSteps, int kTiles>
void launch_attend(const cuda::Context& context, const DecodeArgs& args, int blocks) {
  constexpr int kBytes = shared_bytes<kSteps, kTiles>();
  const auto kernel = attend<T, kSteps, kTiles>;
  KVASIR_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  launch(context, kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), kBytes, args);
}

template <class T, int kSteps>
void run(const cuda::Context& context, const DecodeArgs& args, int blocks) {
  if (args.group <= 8)
    launch_attend<T, kSteps, 1>(context, args, blocks);
  else
    launch_attend<T, kSteps, 2>(context, args, blocks);
}

template <class T>
void run(const cuda::Context& context, const DecodeArgs& args, int blocks) {
  const int head_dim = args.attention.pages.head_dim;
  if (head_dim <= 64) return run<T, 4>(context, args, blocks);
  if (head_dim <= 128) return run<T, 8>(context, args, blocks);
  run<T, 16>(context, args, blocks);
}

}  // namespace

void launch_decode_attention(const cuda::Context& context, const DecodeArgs& args, int blocks) {
  if (args.attention.pages.dtype == DType::kBF16)
    run<bfloat16>(context, args, blocks);
  else
    run<float16>(context, args, blocks);
}

}  // namespace kvasir::kernels
