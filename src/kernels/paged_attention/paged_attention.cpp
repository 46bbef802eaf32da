#include "kernels/paged_attention/paged_attention.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/paged_attention/paged_attention_block.h"
#include "kernels/paged_attention/paged_attention_feed.h"
#include "kernels/registry.h"

namespace kvasir::kernels {
namespace {

bool is_any(const AttentionDesc&) { return true; }
#if defined(__x86_64__)
bool is_f32(const AttentionDesc& desc) { return desc.dtype == DType::kF32; }
bool is_bf16(const AttentionDesc& desc) { return desc.dtype == DType::kBF16; }
// Tiles take keys from their pages, 32 elements at a time.
bool is_whole_tiles(const AttentionDesc& desc) { return is_bf16(desc) && desc.head_dim % 32 == 0; }
#endif

struct Kernels {
  const AttentionKernel* prefill;  // null: run_attention_reference
  const AttentionKernel* decode;
};

using AttentionImplementation = Implementation<AttentionDesc, Kernels>;

constexpr AttentionImplementation kTable[] = {
    {"paged_attention_ref", Isa::kScalar, is_any, 0, {nullptr, nullptr}},
#if defined(__x86_64__)
    {"paged_attention_avx2", Isa::kAvx2, is_f32, 1, {&kPrefillF32Avx2, &kDecodeF32Avx2}},
    {"paged_attention_avx2", Isa::kAvx2, is_bf16, 1, {&kPrefillBf16Avx2, &kDecodeBf16Avx2}},
    {"paged_attention_avx512", Isa::kAvx512, is_f32, 2, {&kPrefillF32Avx512, &kDecodeF32Avx512}},
    {"paged_attention_avx512", Isa::kAvx512, is_bf16, 2, {&kPrefillBf16Avx512, &kDecodeBf16Avx512}},
    {"paged_attention_avx512bf16",
     Isa::kAvx512Bf16,
     is_bf16,
     3,
     {&kPrefillBf16Avx512Bf16, &kDecodeBf16Avx512}},
    {"paged_attention_amx", Isa::kAmxBf16, is_bf16, 4, {&kPrefillBf16Amx, &kDecodeBf16Avx512}},
    {"paged_attention_amx", Isa::kAmxBf16, is_whole_tiles, 5, {&kPrefillBf16Amx, &kDecodeBf16Amx}},
#endif
};

const AttentionImplementation& implementation(const AttentionDesc& desc, Isa at_most) {
  return find<AttentionDesc, Kernels>(kTable, desc, at_most);
}

void require(bool condition, const char* message) {
  if (!condition) throw Error(ErrorCode::kInvalidArgument, message, "run_attention");
}

void check(const AttentionArgs& args) {
  require(args.pages.dtype != DType::kF16, "pages are f32 or bf16, found f16");
  require(args.pages.kv_heads > 0 && args.q_heads > 0 && args.q_heads % args.pages.kv_heads == 0,
          "expected a number of query heads that the KV heads divide");
  require(args.pages.head_dim > 0, "expected head_dim > 0");
  require(args.scale > 0, "expected a positive scale");
  require(args.window >= 0, "expected a window >= 0");
  for (const AttentionSpan& span : args.spans) {
    if (!span.plan) continue;
    const AttentionPlan& plan = *span.plan;
    require(plan.row_tile == 64 || plan.row_tile == 128,
            "expected a plan of row tiles of 64 or 128");
    require(std::ssize(plan.heads) == args.q_heads, "expected a plan with a program for each head");
    for (const PlanSegment& segment : plan.segments)
      require(segment.query_variant == 0 && segment.offset_begin >= 0,
              "expected a causal plan without query variants");
  }
}

int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }
int64_t round_up(int64_t x, int64_t y) { return ceil_div(x, y) * y; }

// The work is cut into tasks: some query blocks, which meet all their keys, or the one query of a
// decode span, which meets a range of its keys, those of some KV heads, and leaves a partial result
// for each of them in a slot.
struct Task {
  int64_t span = 0;
  int32_t kv_head = 0;
  int32_t first_head = 0;  // of the query heads of the KV head
  int64_t heads = 0;
  QueryCut cut;
  int64_t cost = 0;      // of query blocks: pairs of a query and a key, about
  int32_t kv_heads = 0;  // of a decode span; 0: of query blocks
  int64_t first_key = 0;
  int64_t last_key = 0;
  int64_t slot = 0;
  int64_t slot_stride = 0;  // from a KV head to the next
};

// The partial results of a decode span: [kv_head][part] from `first_slot` on.
struct DecodeSpan {
  int64_t span = 0;
  int64_t first_slot = 0;
  int64_t parts = 0;
};

constexpr int64_t kLeastBlockRows = 64;
constexpr int64_t kPrefillTasksPerThread = 6;
constexpr int64_t kDecodeTasksPerThread = 8;
constexpr int64_t kLeastDecodeKeys = 256;  // of a task: fewer KV heads are better than fewer keys

// Stacked rows of a query block at most: as many as leave queries and sums in the L2 cache, so that
// packing a block of keys is a small part of the work.
int64_t most_block_rows(const AttentionDesc& desc) {
  return std::clamp<int64_t>((int64_t{1} << 18) / desc.head_dim / 64 * 64, kLeastBlockRows, 1024);
}

// Rows of scratch from the decode block of a KV head to that of the next. What a block clears as
// padding may be rows of the next one, which begins later; few rows stay together in the caches.
int64_t decode_rows(const AttentionDesc& desc) {
  const int64_t group = desc.q_heads / desc.kv_heads;
  return group <= 4 ? 4 : round_up(group, kRowPadding);
}

// The workspace: tasks, decode spans, partial results, then the scratch of each worker.
struct Workspace {
  Task* tasks = nullptr;
  DecodeSpan* decode_spans = nullptr;
  float* sums = nullptr;          // [slots, group, columns]
  float* maxima = nullptr;        // [slots, group]
  float* denominators = nullptr;  // [slots, group]
  AttentionScratch scratch;       // of worker 0
  std::byte* gathered = nullptr;  // single keys and their values, as pages of one head; of worker 0
  int64_t scratch_bytes = 0;      // from one worker to the next
  int64_t bytes = 0;

  AttentionScratch scratch_of(int worker) const {
    AttentionScratch moved = scratch;
    const auto move = [&](auto*& pointer) {
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(
          reinterpret_cast<std::byte*>(pointer) + worker * scratch_bytes);
    };
    move(moved.keys);
    move(moved.values);
    move(moved.queries);
    move(moved.scores);
    move(moved.sums);
    move(moved.maxima);
    move(moved.denominators);
    return moved;
  }
};

// Lays the workspace out from `base` on. Every implementation has room in it: packed operands take
// four bytes an element at most.
Workspace lay_out(const AttentionDesc& desc, int64_t rows, int64_t spans, int threads,
                  std::byte* base) {
  const int64_t group = desc.q_heads / desc.kv_heads;
  const int64_t columns = round_up(desc.head_dim, kPanelColumns);
  const int64_t row_bytes = round_up(desc.head_dim, 2 * kPanelColumns) * 4;
  // A query block, or the decode blocks of all KV heads.
  const int64_t block_rows = std::max(round_up(most_block_rows(desc), kRowPadding),
                                      desc.kv_heads * decode_rows(desc) + kRowPadding);
  // With a plan heads may have query blocks of their own, each with a rest in a span and a row
  // tile.
  const int64_t blocks = group * (spans + ceil_div(rows, 64)) +
                         ceil_div(rows, std::max<int64_t>(1, kLeastBlockRows / group));
  const int64_t slots = desc.kv_heads * (spans + kDecodeTasksPerThread * threads);
  Workspace w;
  const auto take = [&](auto*& pointer, int64_t bytes) {
    if (base)
      pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(base + w.bytes);
    w.bytes += round_up(bytes, 64);
  };
  take(w.tasks, (desc.kv_heads * blocks + slots) * static_cast<int64_t>(sizeof(Task)));
  take(w.decode_spans, spans * static_cast<int64_t>(sizeof(DecodeSpan)));
  take(w.sums, slots * group * columns * 4);
  take(w.maxima, slots * group * 4);
  take(w.denominators, slots * group * 4);
  const int64_t shared = w.bytes;
  take(w.scratch.keys, kMostBlockKeys * row_bytes);
  take(w.scratch.values, kMostBlockKeys * columns * 4);
  take(w.gathered,
       kMostBlockKeys * 2 * desc.head_dim * static_cast<int64_t>(dtype_bytes(desc.dtype)));
  take(w.scratch.queries, block_rows * row_bytes);
  take(w.scratch.scores, kScoreScratchBytes);
  take(w.scratch.sums, block_rows * columns * 4);
  take(w.scratch.maxima, block_rows * 4);
  take(w.scratch.denominators, block_rows * kDenominatorLanes * 4);
  w.scratch_bytes = w.bytes - shared;
  w.bytes = shared + threads * w.scratch_bytes;
  return w;
}

class Attention {
 public:
  Attention(const CpuContext& context, const AttentionArgs& args, const Kernels& kernels)
      : context_(context),
        args_(args),
        kernels_(kernels),
        desc_{.dtype = args.pages.dtype,
              .q_heads = args.q_heads,
              .kv_heads = args.pages.kv_heads,
              .head_dim = args.pages.head_dim},
        group_(args.q_heads / args.pages.kv_heads),
        element_bytes_(static_cast<int64_t>(dtype_bytes(args.pages.dtype))) {
    int64_t rows = 0;
    for (const AttentionSpan& span : args.spans) rows += span.rows;
    workspace_ = lay_out(desc_, rows, static_cast<int64_t>(args.spans.size()), context.pool.size(),
                         args.workspace);
  }

  void run() {
    plan_prefill();
    plan_decode();
    context_.pool.parallel(tasks_, [&](int64_t i, int worker) {
      const Task& task = workspace_.tasks[i];
      task.kv_heads > 0 ? run_decode(task, worker) : run_prefill(task, worker);
    });
    if (decode_spans_ == 0 || context_.cancelled()) return;
    context_.pool.parallel(decode_spans_ * desc_.kv_heads, [&](int64_t task, int) {
      merge(workspace_.decode_spans[task / desc_.kv_heads], task % desc_.kv_heads);
    });
  }

 private:
  bool is_decode(const AttentionSpan& span) const {
    return span.rows == 1 && !span.plan && !args_.deterministic;
  }

  // The first position that the query at `position` sees, down to a page.
  int64_t lowest_key(int64_t position) const {
    if (args_.window == 0) return 0;
    return std::max<int64_t>(0, position + 1 - args_.window) / kPageTokens * kPageTokens;
  }

  void plan_prefill() {
    int64_t stacked = 0;
    for (const AttentionSpan& span : args_.spans)
      if (!is_decode(span)) stacked += span.rows * desc_.q_heads;
    const int64_t share = ceil_div(stacked, kPrefillTasksPerThread * context_.pool.size()) /
                          kTileQueryRows * kTileQueryRows;
    const int64_t block_rows = std::clamp<int64_t>(share, kLeastBlockRows, most_block_rows(desc_));
    for (size_t i = 0; i < args_.spans.size(); ++i) {
      const AttentionSpan& span = args_.spans[i];
      if (is_decode(span)) continue;
      if (span.plan)
        cut_sparse(static_cast<int64_t>(i), *span.plan, block_rows);
      else
        cut_dense(static_cast<int64_t>(i), std::max<int64_t>(1, block_rows / group_));
    }
    // The longest first, so that the threads end together.
    std::sort(workspace_.tasks, workspace_.tasks + tasks_, [&](const Task& a, const Task& b) {
      return a.cost != b.cost ? a.cost > b.cost : a.kv_head < b.kv_head;
    });
  }

  void cut_dense(int64_t index, int64_t most_queries) {
    const AttentionSpan& span = args_.spans[index];
    for (int64_t query = 0; query < span.rows; query += most_queries) {
      const int64_t queries = std::min(most_queries, span.rows - query);
      const int64_t position = span.query_offset + query;
      for (int32_t kv_head = 0; kv_head < desc_.kv_heads; ++kv_head)
        workspace_.tasks[tasks_++] = {
            .span = index,
            .kv_head = kv_head,
            .heads = group_,
            .cut = whole(query, queries),
            .cost = (position + queries - lowest_key(position)) * queries * group_};
    }
  }

  // One query block.
  static QueryCut whole(int64_t first_query, int64_t queries) {
    return {.first_query = first_query,
            .queries = queries,
            .block_queries = queries,
            .tile_queries = queries};
  }

  // A task has heads of one program. Where that says something else for one row tile than for
  // another, query blocks are whole row tiles: several, which share the keys that they meet, or, of
  // programs with kBlocks, one after the other.
  void cut_sparse(int64_t index, const AttentionPlan& plan, int64_t block_rows) {
    const int64_t rows = args_.spans[index].rows, tile = plan.row_tile;
    for (int64_t head = 0, heads; head < desc_.q_heads; head += heads) {
      heads = 1;
      const HeadProgram& program = plan.heads[head];
      while ((head + heads) % group_ != 0 && plan.heads[head + heads].first == program.first &&
             plan.heads[head + heads].count == program.count)
        ++heads;
      Task task{.span = index,
                .kv_head = static_cast<int32_t>(head / group_),
                .first_head = static_cast<int32_t>(head % group_),
                .heads = heads};
      const int64_t share = std::max<int64_t>(1, block_rows / heads);
      const bool by_tile = depends_on_tile(plan, program);
      int64_t step = share, most_queries = share;
      if (by_tile) {
        most_queries = block_queries(plan, program, heads);
        // Row tiles that share a query block share their columns' order.
        if (!args_.deterministic) most_queries = std::min(most_queries, round_up(share, tile));
        step = round_up(share, std::max(most_queries, tile));
      }
      for (int64_t query = 0; query < rows; query += step) {
        task.cut = whole(query, std::min(step, rows - query));
        if (by_tile) {
          task.cut.block_queries = most_queries;
          task.cut.tile_queries = tile;
          task.cut.first_tile = query / tile;
        }
        task.cost = cost_of(task, plan, program);
        workspace_.tasks[tasks_++] = task;
      }
    }
  }

  // Whether a program says something else for one row tile than for another.
  static bool depends_on_tile(const AttentionPlan& plan, const HeadProgram& program) {
    return std::ranges::any_of(
        plan.segments.subspan(program.first, program.count), [](const PlanSegment& segment) {
          return segment.kind == SegmentKind::kRelative || segment.kind == SegmentKind::kBlocks ||
                 segment.tile_begin > 0 || segment.tile_end != kNoBound;
        });
  }

  // Queries of a query block whose program depends on the row tile, whatever the rows beside it.
  int64_t block_queries(const AttentionPlan& plan, const HeadProgram& program,
                        int64_t heads) const {
    const int64_t most = std::max<int64_t>(1, most_block_rows(desc_) / heads);
    if (most < plan.row_tile) return most;
    const bool has_blocks = std::ranges::any_of(
        plan.segments.subspan(program.first, program.count),
        [](const PlanSegment& segment) { return segment.kind == SegmentKind::kBlocks; });
    return has_blocks ? plan.row_tile : most / plan.row_tile * plan.row_tile;
  }

  int64_t cost_of(const Task& task, const AttentionPlan& plan, const HeadProgram& program) const {
    const int64_t length =
        args_.spans[task.span].query_offset + task.cut.first_query + task.cut.queries;
    int64_t pairs = 0;
    for (const PlanSegment& segment : plan.segments.subspan(program.first, program.count)) {
      const int64_t first_tile =
          std::max<int64_t>(segment.tile_begin, task.cut.first_query / plan.row_tile);
      const int64_t last_tile = std::min<int64_t>(
          segment.tile_end, ceil_div(task.cut.first_query + task.cut.queries, plan.row_tile));
      int64_t keys = std::min<int64_t>({segment.count, segment.offset_end, length});
      for (int64_t tile = first_tile; tile < last_tile; ++tile) {
        if (segment.kind == SegmentKind::kBlocks) {
          keys = 0;
          for (int32_t i = 0; i < segment.count; ++i)
            keys += kPageTokens *
                    std::popcount(plan.block_bits[segment.first + tile * segment.count + i]);
        }
        pairs += keys * plan.row_tile;
      }
    }
    return pairs * task.heads;
  }

  void plan_decode() {
    int64_t all_keys = 0;
    for (const AttentionSpan& span : args_.spans)
      if (is_decode(span))
        all_keys += (span.query_offset + 1 - lowest_key(span.query_offset)) * desc_.kv_heads;
    const int64_t share = std::max(
        kLeastDecodeKeys, ceil_div(all_keys, kDecodeTasksPerThread * context_.pool.size()));
    // KV heads go together, as a page has their keys in a row, which is read faster.
    const int64_t most_heads = std::min<int64_t>(desc_.kv_heads, ceil_div(share, kLeastDecodeKeys));
    const int64_t heads = ceil_div(desc_.kv_heads, ceil_div(desc_.kv_heads, most_heads));
    int64_t slots = 0;
    for (size_t i = 0; i < args_.spans.size(); ++i) {
      const AttentionSpan& span = args_.spans[i];
      if (!is_decode(span)) continue;
      const int64_t first = lowest_key(span.query_offset), last = span.query_offset + 1;
      const int64_t most_parts = std::max<int64_t>(1, ceil_div((last - first) * heads, share));
      const int64_t keys =
          std::max(kPageTokens, round_up(ceil_div(last - first, most_parts), kPageTokens));
      const int64_t parts = std::max<int64_t>(1, ceil_div(last - first, keys));
      workspace_.decode_spans[decode_spans_++] = {
          .span = static_cast<int64_t>(i), .first_slot = slots, .parts = parts};
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t kv_head = 0; kv_head < desc_.kv_heads; kv_head += heads)
          workspace_.tasks[tasks_++] = {
              .span = static_cast<int64_t>(i),
              .kv_head = static_cast<int32_t>(kv_head),
              .heads = group_,
              .cut = whole(0, 1),
              .kv_heads = static_cast<int32_t>(std::min(heads, desc_.kv_heads - kv_head)),
              .first_key = first + part * keys,
              .last_key = std::min(last, first + (part + 1) * keys),
              .slot = slots + kv_head * parts + part,
              .slot_stride = parts};
      slots += desc_.kv_heads * parts;
    }
  }

  int64_t columns() const { return round_up(desc_.head_dim, kPanelColumns); }

  void run_prefill(const Task& task, int worker) {
    const AttentionSpan& span = args_.spans[task.span];
    const AttentionKernel& kernel = *kernels_.prefill;
    // Without a plan: one segment.
    const PlanSegment all{.count = kNoBound};
    const AttentionPlan dense{.heads = {}, .segments = {&all, 1}, .columns = {}, .block_bits = {}};
    const int64_t head = task.kv_head * group_ + task.first_head;
    const KeySource source{
        .plan = span.plan ? span.plan : &dense,
        .program = span.plan ? span.plan->heads[head] : HeadProgram{.first = 0, .count = 1},
        .page_table = span.page_table,
        .pages = &args_.pages,
        .kv_head = task.kv_head,
        .query_offset = span.query_offset,
        .window = args_.window,
        .block_keys = kernel.block_keys,
        .gathered = workspace_.gathered + worker * workspace_.scratch_bytes,
        .q = {.first = q_at(span.first_row, head),
              .bytes = task.heads * desc_.head_dim * element_bytes_,
              .stride = args_.q_row_stride * element_bytes_},
        .out = {.first = out_at(span.first_row, head),
                .bytes = task.heads * desc_.head_dim * element_bytes_,
                .stride = int64_t{desc_.q_heads} * desc_.head_dim * element_bytes_,
                .is_written = true}};
    KeyFeed feed(source, task.cut);
    uint64_t scored = 0;
    for (int64_t block = 0; block < task.cut.blocks(); ++block) {
      const QueryBlock queries = query_block(task, block, worker);
      kernel.begin(queries);
      for (KeyBlock keys; feed.next(block, keys);) {
        if (context_.cancelled()) return;
        scored += kernel.add(queries, keys);
      }
      finish(task, block, queries);
    }
    count(task, scored);
  }

  void run_decode(const Task& task, int worker) {
    const AttentionKernel& kernel = *kernels_.decode;
    QueryBlock queries = query_block(task, 0, worker);
    queries.kv_heads = task.kv_heads;
    queries.rows_apart = decode_rows(desc_);
    kernel.begin(queries);
    uint64_t scored = 0;
    KeyBlock keys = decode_keys(task, task.first_key);
    while (keys.end > 0 && !context_.cancelled()) {
      const KeyBlock next = decode_keys(task, keys.first + kernel.block_keys);
      Soon soon[kMostBlockKeys / kPageTokens];
      keys.soon = soon;
      for (int page = 0; page * kPageTokens < next.end; ++page)
        soon[keys.soon_count++] = {
            .first = next.pages[page],
            .bytes = std::min<int64_t>(kPageTokens, next.end - page * kPageTokens) *
                     desc_.head_dim * element_bytes_,
            .stride = kv_head_bytes() / 2,
            .count = 2};
      scored += kernel.add(queries, keys);
      keys = next;
    }
    kernel.finish(queries, nullptr);
    for (int64_t i = 0; i < task.kv_heads; ++i)
      keep_partial(task.slot + i * task.slot_stride, queries.scratch, i * queries.rows_apart);
    count(task, scored);
  }

  void count(const Task& task, uint64_t scored) const {
    if (args_.scored_pairs)
      std::atomic_ref<uint64_t>(args_.scored_pairs[task.span])
          .fetch_add(scored, std::memory_order_relaxed);
  }

  const std::byte* q_at(int64_t row, int64_t head) const {
    return static_cast<const std::byte*>(args_.q) +
           (row * args_.q_row_stride + head * desc_.head_dim) * element_bytes_;
  }

  std::byte* out_at(int64_t row, int64_t head) const {
    return static_cast<std::byte*>(args_.out) +
           (row * desc_.q_heads + head) * desc_.head_dim * element_bytes_;
  }

  QueryBlock query_block(const Task& task, int64_t block, int worker) const {
    const AttentionSpan& span = args_.spans[task.span];
    const int64_t query = task.cut.first_of(block), head = task.kv_head * group_ + task.first_head;
    return {.q = q_at(span.first_row + query, head),
            .q_row_bytes = args_.q_row_stride * element_bytes_,
            .rows = task.cut.queries_of(block) * task.heads,
            .tile_rows = task.cut.tile_queries * task.heads,
            .group = static_cast<int>(task.heads),
            .head_dim = desc_.head_dim,
            .first_position = span.query_offset + query,
            .scale_log2 = args_.scale * 1.44269504088896341f,
            .scratch = workspace_.scratch_of(worker)};
  }

  int64_t kv_head_bytes() const {
    return 2 * kPageTokens * int64_t{desc_.head_dim} * element_bytes_;
  }

  // Keys of the first KV head of a decode task from `first` on; none behind its last.
  KeyBlock decode_keys(const Task& task, int64_t first) const {
    const int64_t end = std::min<int64_t>(task.last_key - first, kernels_.decode->block_keys);
    KeyBlock keys{.first = first,
                  .end = static_cast<int>(std::max<int64_t>(0, end)),
                  .offset_end = args_.window > 0 ? args_.window : kNoBound};
    keys.tiles[0] = {0, keys.end};
    for (int64_t page = 0; page * kPageTokens < keys.end; ++page)
      keys.pages[page] =
          args_.pages.page(args_.spans[task.span].page_table[first / kPageTokens + page]) +
          task.kv_head * kv_head_bytes();
    return keys;
  }

  void finish(const Task& task, int64_t block, const QueryBlock& queries) const {
    const int64_t row = args_.spans[task.span].first_row + task.cut.first_of(block);
    const int64_t head = task.kv_head * group_ + task.first_head;
    const AttentionOutput output{
        .out = out_at(row, head),
        .out_row_bytes = int64_t{desc_.q_heads} * desc_.head_dim * element_bytes_,
        .lse = args_.lse ? args_.lse + row * desc_.q_heads + head : nullptr,
        .lse_row_stride = desc_.q_heads};
    kernels_.prefill->finish(queries, &output);
  }

  float* sums(int64_t slot) const { return workspace_.sums + slot * group_ * columns(); }
  float* maxima(int64_t slot) const { return workspace_.maxima + slot * group_; }
  float* denominators(int64_t slot) const { return workspace_.denominators + slot * group_; }

  // `row`: of the scratch.
  void keep_partial(int64_t slot, const AttentionScratch& scratch, int64_t row) const {
    std::copy_n(scratch.sums + row * columns(), group_ * columns(), sums(slot));
    std::copy_n(scratch.maxima + row, group_, maxima(slot));
    for (int64_t i = 0; i < group_; ++i)
      denominators(slot)[i] = scratch.denominators[(row + i) * kDenominatorLanes];
  }

  // Joins the parts of one query and KV head, in ascending order of keys.
  void merge(const DecodeSpan& decode, int64_t kv_head) const {
    const AttentionSpan& span = args_.spans[decode.span];
    const int64_t first_slot = decode.first_slot + kv_head * decode.parts;
    for (int64_t i = 0; i < group_; ++i) {
      float maximum = -std::numeric_limits<float>::infinity();
      for (int64_t part = 0; part < decode.parts; ++part)
        maximum = std::max(maximum, maxima(first_slot + part)[i]);
      const float shift = std::isinf(maximum) ? 0 : maximum;
      float* total = sums(first_slot) + i * columns();
      float denominator = 0;
      for (int64_t part = 0; part < decode.parts; ++part) {
        const float factor = std::exp2(maxima(first_slot + part)[i] - shift);
        const float* add = sums(first_slot + part) + i * columns();
        denominator += factor * denominators(first_slot + part)[i];
        for (int64_t column = 0; column < columns(); ++column)
          total[column] = (part == 0 ? 0 : total[column]) + factor * add[column];
      }
      store(span.first_row * desc_.q_heads + kv_head * group_ + i, total, maximum, denominator);
    }
  }

  void store(int64_t out_row, const float* total, float maximum, float denominator) const {
    const float inverse = denominator > 0 ? 1 / denominator : 0;
    for (int64_t column = 0; column < desc_.head_dim; ++column) {
      const int64_t at = out_row * desc_.head_dim + column;
      if (desc_.dtype == DType::kF32)
        static_cast<float*>(args_.out)[at] = total[column] * inverse;
      else
        static_cast<bf16_t*>(args_.out)[at] = f32_to_bf16(total[column] * inverse);
    }
    constexpr float kLn2 = 0.69314718055994531f;
    if (args_.lse) args_.lse[out_row] = (maximum + std::log2(denominator)) * kLn2;
  }

  const CpuContext& context_;
  const AttentionArgs& args_;
  const Kernels kernels_;
  const AttentionDesc desc_;
  const int64_t group_;
  const int64_t element_bytes_;
  Workspace workspace_;
  int64_t tasks_ = 0;
  int64_t decode_spans_ = 0;
};

}  // namespace

size_t attention_workspace_bytes(const AttentionDesc& desc, int64_t max_rows, int64_t max_spans,
                                 int64_t /*max_length*/, int threads) {
  return static_cast<size_t>(lay_out(desc, max_rows, max_spans, threads, nullptr).bytes);
}

void run_attention(const CpuContext& context, const AttentionArgs& args, Isa at_most) {
  check(args);
  const AttentionDesc desc{.dtype = args.pages.dtype,
                           .q_heads = args.q_heads,
                           .kv_heads = args.pages.kv_heads,
                           .head_dim = args.pages.head_dim};
  const Kernels& kernels = implementation(desc, at_most).run;
  if (!kernels.prefill) return run_attention_reference(context, args);
  Attention(context, args, kernels).run();
}

std::string_view attention_implementation(const AttentionDesc& desc, Isa at_most) {
  return implementation(desc, at_most).name;
}

}  // namespace kvasir::kernels
