#include "kernels/paged_attention/paged_attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels/paged_attention/paged_attention_block.h"
#include "kernels/paged_attention/paged_attention_walk.h"
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

// The work is cut into tasks: a query block, which meets all its keys, or the one query of a decode
// span, which meets a range of its keys and leaves a partial result in a slot.
struct Task {
  int64_t span = 0;
  int32_t kv_head = 0;
  int32_t first_head = 0;  // of the query heads of the KV head
  int64_t heads = 0;
  int64_t first_query = 0;
  int64_t queries = 0;
  int64_t cost = 0;       // of a query block: pairs of a query and a key, for each head
  int64_t first_key = 0;  // of a decode span
  int64_t last_key = 0;
  int64_t slot = -1;  // < 0: no partial result
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
constexpr int64_t kLeastDecodeKeys = 256;

// Stacked rows of a query block at most: as many as leave queries and sums in the L2 cache, so that
// packing a block of keys is a small part of the work.
int64_t most_block_rows(const AttentionDesc& desc) {
  return std::clamp<int64_t>((int64_t{1} << 18) / desc.head_dim / 64 * 64, kLeastBlockRows, 1024);
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
  const int64_t block_rows = round_up(std::max(most_block_rows(desc), group), kRowPadding);
  // With a plan heads may have query blocks of their own, each with a rest in a span and a row
  // tile.
  const int64_t blocks = group * (spans + ceil_div(rows, 64)) +
                         ceil_div(rows, std::max<int64_t>(1, kLeastBlockRows / group));
  const int64_t slots = desc.kv_heads * spans + kDecodeTasksPerThread * threads;
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
    context_.pool.parallel(
        tasks_, [&](int64_t task, int worker) { run_task(workspace_.tasks[task], worker); });
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
            .first_query = query,
            .queries = queries,
            .cost = (position + queries - lowest_key(position)) * queries};
    }
  }

  // A query block has heads of one program and lies in a row tile, where that matters.
  void cut_sparse(int64_t index, const AttentionPlan& plan, int64_t block_rows) {
    const int64_t rows = args_.spans[index].rows;
    for (int64_t head = 0, heads; head < desc_.q_heads; head += heads) {
      heads = 1;
      const HeadProgram& program = plan.heads[head];
      while ((head + heads) % group_ != 0 && plan.heads[head + heads].first == program.first &&
             plan.heads[head + heads].count == program.count)
        ++heads;
      const bool by_tile = depends_on_tile(plan, program);
      const int64_t tile_rows = by_tile ? plan.row_tile : rows;
      const int64_t most_rows = by_tile ? std::max(most_block_rows(desc_), group_) : block_rows;
      const int64_t most_queries = std::clamp<int64_t>(most_rows / heads, 1, tile_rows);
      Task task{.span = index,
                .kv_head = static_cast<int32_t>(head / group_),
                .first_head = static_cast<int32_t>(head % group_),
                .heads = heads};
      for (int64_t query = 0; query < rows; query += task.queries) {
        task.first_query = query;
        task.queries = std::min({most_queries, rows - query, tile_rows - query % tile_rows});
        task.cost = 0;
        KeyWalk walk = walk_of(task, plan, program);
        for (KeyBlock block; walk.next(block);)
          task.cost += (block.end - block.begin) * task.queries;
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

  KeyWalk walk_of(const Task& task, const AttentionPlan& plan, const HeadProgram& program) const {
    const AttentionSpan& span = args_.spans[task.span];
    const int64_t first = span.query_offset + task.first_query;
    const int64_t tile = task.first_query / plan.row_tile;
    const int block_keys = (task.slot < 0 ? kernels_.prefill : kernels_.decode)->block_keys;
    return KeyWalk(plan, program,
                   {.first = first,
                    .last = first + task.queries - 1,
                    .tile = tile,
                    .tile_position = span.query_offset + tile * plan.row_tile},
                   args_.window, block_keys,
                   task.slot < 0 ? block_keys : static_cast<int>(kPageTokens));
  }

  void plan_decode() {
    int64_t all_keys = 0;
    for (const AttentionSpan& span : args_.spans)
      if (is_decode(span))
        all_keys += (span.query_offset + 1 - lowest_key(span.query_offset)) * desc_.kv_heads;
    const int64_t share = std::max(
        kLeastDecodeKeys, ceil_div(all_keys, kDecodeTasksPerThread * context_.pool.size()));
    int64_t slots = 0;
    for (size_t i = 0; i < args_.spans.size(); ++i) {
      const AttentionSpan& span = args_.spans[i];
      if (!is_decode(span)) continue;
      const int64_t first = lowest_key(span.query_offset), last = span.query_offset + 1;
      const int64_t most_parts = std::max<int64_t>(1, ceil_div(last - first, share));
      const int64_t keys =
          std::max(kPageTokens, round_up(ceil_div(last - first, most_parts), kPageTokens));
      const int64_t parts = std::max<int64_t>(1, ceil_div(last - first, keys));
      workspace_.decode_spans[decode_spans_++] = {
          .span = static_cast<int64_t>(i), .first_slot = slots, .parts = parts};
      for (int32_t kv_head = 0; kv_head < desc_.kv_heads; ++kv_head)
        for (int64_t part = 0; part < parts; ++part)
          workspace_.tasks[tasks_++] = {.span = static_cast<int64_t>(i),
                                        .kv_head = kv_head,
                                        .heads = group_,
                                        .queries = 1,
                                        .first_key = first + part * keys,
                                        .last_key = std::min(last, first + (part + 1) * keys),
                                        .slot = slots++};
    }
  }

  int64_t columns() const { return round_up(desc_.head_dim, kPanelColumns); }

  void run_task(const Task& task, int worker) {
    const AttentionSpan& span = args_.spans[task.span];
    const int64_t row = span.first_row + task.first_query;
    const int64_t head = task.kv_head * group_ + task.first_head;
    const QueryBlock queries{
        .q = static_cast<const std::byte*>(args_.q) +
             (row * args_.q_row_stride + head * desc_.head_dim) * element_bytes_,
        .q_row_bytes = args_.q_row_stride * element_bytes_,
        .rows = task.queries * task.heads,
        .group = static_cast<int>(task.heads),
        .head_dim = desc_.head_dim,
        .first_position = span.query_offset + task.first_query,
        .scale_log2 = args_.scale * 1.44269504088896341f,
        .scratch = workspace_.scratch_of(worker)};
    const AttentionKernel& kernel = task.slot < 0 ? *kernels_.prefill : *kernels_.decode;
    kernel.begin(queries);
    if (!add_keys(task, kernel, queries, worker)) return;
    if (task.slot >= 0) {
      kernel.finish(queries, nullptr);
      return keep_partial(task.slot, queries.scratch);
    }
    const int64_t out_row = row * desc_.q_heads + head;
    const AttentionOutput output{
        .out = static_cast<std::byte*>(args_.out) + out_row * desc_.head_dim * element_bytes_,
        .out_row_bytes = int64_t{desc_.q_heads} * desc_.head_dim * element_bytes_,
        .lse = args_.lse ? args_.lse + out_row : nullptr,
        .lse_row_stride = desc_.q_heads};
    kernel.finish(queries, &output);
  }

  // False where the caller has cancelled.
  bool add_keys(const Task& task, const AttentionKernel& kernel, const QueryBlock& queries,
                int worker) {
    const AttentionSpan& span = args_.spans[task.span];
    // Without a plan: one segment.
    PlanSegment all;
    const HeadProgram whole{.first = 0, .count = 1}, *program = &whole;
    AttentionPlan dense{.heads = {}, .segments = {&all, 1}, .columns = {}, .block_bits = {}};
    const AttentionPlan* plan = &dense;
    all.count = kNoBound;
    if (task.slot >= 0) {
      all.first = static_cast<int32_t>(task.first_key);
      all.count = static_cast<int32_t>(task.last_key - task.first_key);
    } else if (span.plan) {
      plan = span.plan;
      program = &plan->heads[task.kv_head * group_ + task.first_head];
    }
    KeyWalk walk = walk_of(task, *plan, *program);
    uint64_t scored = 0;
    KeyBlock next;
    bool is_there = advance(walk, task, next);
    while (is_there) {
      if (context_.cancelled()) return false;
      KeyBlock block = next;
      is_there = advance(walk, task, next);
      if (is_there) std::copy(std::begin(next.pages), std::end(next.pages), block.next_pages);
      if (is_gathered(block)) gather(task, worker, block);
      scored += kernel.add(queries, block);
    }
    if (args_.scored_pairs)
      std::atomic_ref<uint64_t>(args_.scored_pairs[task.span])
          .fetch_add(scored, std::memory_order_relaxed);
    return true;
  }

  static bool is_gathered(const KeyBlock& block) {
    return block.positions && block.position_keys_log2 == 0;
  }

  // The next block of a walk, with its pages where keys are not gathered.
  bool advance(KeyWalk& walk, const Task& task, KeyBlock& block) const {
    if (!walk.next(block)) return false;
    if (is_gathered(block)) return true;
    for (int64_t i = block.begin / kPageTokens; i * kPageTokens < block.end; ++i)
      block.pages[i] =
          keys_at(task, block.positions ? block.positions[i] : block.first + i * kPageTokens);
    return true;
  }

  // K of the task's head in the page of `position`.
  const std::byte* keys_at(const Task& task, int64_t position) const {
    const int64_t head_bytes = 2 * kPageTokens * desc_.head_dim * element_bytes_;
    return args_.pages.page(args_.spans[task.span].page_table[position / kPageTokens]) +
           task.kv_head * head_bytes;
  }

  // Brings the single keys of a block together, as they would lie in pages.
  void gather(const Task& task, int worker, KeyBlock& block) const {
    const int64_t row_bytes = desc_.head_dim * element_bytes_;
    const int64_t values = kPageTokens * row_bytes;  // from a key to its value
    std::byte* to = workspace_.gathered + worker * workspace_.scratch_bytes;
    for (int i = 0; i < block.end; ++i) {
      if (i % kPageTokens == 0) {
        if (i > 0) to += values;
        block.pages[i / kPageTokens] = to;
      }
      const int64_t position = block.positions[i];
      const std::byte* from = keys_at(task, position) + position % kPageTokens * row_bytes;
      std::memcpy(to, from, static_cast<size_t>(row_bytes));
      std::memcpy(to + values, from + values, static_cast<size_t>(row_bytes));
      to += row_bytes;
    }
  }

  float* sums(int64_t slot) const { return workspace_.sums + slot * group_ * columns(); }
  float* maxima(int64_t slot) const { return workspace_.maxima + slot * group_; }
  float* denominators(int64_t slot) const { return workspace_.denominators + slot * group_; }

  void keep_partial(int64_t slot, const AttentionScratch& scratch) const {
    std::copy_n(scratch.sums, group_ * columns(), sums(slot));
    std::copy_n(scratch.maxima, group_, maxima(slot));
    for (int64_t i = 0; i < group_; ++i)
      denominators(slot)[i] = scratch.denominators[i * kDenominatorLanes];
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
