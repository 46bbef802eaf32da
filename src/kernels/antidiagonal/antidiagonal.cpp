#include "kernels/antidiagonal/antidiagonal.h"

#include <algorithm>

#include "kernels/antidiagonal/antidiagonal_part.h"
#include "kernels/registry.h"

namespace kvasir::kernels {
namespace {

using Run = void (*)(const CpuContext& context, const AntidiagonalArgs& args);
using AntidiagonalImplementation = Implementation<AntidiagonalArgs, Run>;

constexpr int64_t divide_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

// The problem in groups and panels, and the workspace's parts, in bytes.
struct Layout {
  // `element_bytes`: of packed queries and staged keys.
  Layout(int64_t element_bytes, int64_t heads, int head_dim, int stride, int64_t rows,
         int64_t length, int threads) {
    panels = divide_up(divide_up(rows, stride), kGroupsAtOnce);
    parts = divide_up(length, kPartKeys);
    state_blocks = parts * (kPartKeys / kMassBlock);
    const int64_t elements = padded_elements(group_elements(head_dim, stride));
    panel_bytes = elements * kGroupsAtOnce * element_bytes;
    packed = take(panels * heads * panel_bytes);
    states =
        take(panels * heads * state_blocks * kStateFloats * static_cast<int64_t>(sizeof(float)));
    // Sums rest as two score tiles for each panel.
    const int64_t resting = divide_up(panels * heads, 2) * kScoreBytes;
    worker_bytes = kStepKeyTiles * panel_bytes + resting;
    scratch = take(worker_bytes * threads);
  }
  int64_t take(int64_t bytes) {
    const int64_t at = size;
    size += bytes;
    return at;
  }
  int64_t panels, parts, state_blocks;
  int64_t packed, states, scratch;
  int64_t panel_bytes = 0, worker_bytes = 0;
  int64_t size = 0;
};

// A call's panels, which every range of keys meets.
class GroupRun {
 public:
  GroupRun(const AntidiagonalArgs& args, const Layout& layout, const GroupFunctions& functions)
      : args_(args),
        layout_(layout),
        functions_(functions),
        heads_(std::ssize(args.heads)),
        is_bf16_(args.pages.dtype == DType::kBF16),
        element_bytes_(static_cast<int64_t>(dtype_bytes(args.pages.dtype))),
        scale_(args.scale / static_cast<float>(args.stride) * 1.44269504088896340736f) {}

  int64_t units() const { return layout_.panels * heads_; }

  void pack(int64_t unit) const {
    const int64_t first_row = unit / heads_ * panel_rows();
    const int64_t head = args_.heads[static_cast<size_t>(unit % heads_)];
    functions_.pack(
        {.q = static_cast<const std::byte*>(args_.q) +
              (first_row * args_.q_row_stride + head * args_.pages.head_dim) * element_bytes_,
         .row_bytes = args_.q_row_stride * element_bytes_,
         .rows = args_.rows - first_row,
         .head_dim = args_.pages.head_dim,
         .stride = args_.stride,
         .is_bf16 = is_bf16_},
        at(layout_.packed + unit * layout_.panel_bytes));
  }

  void score(int64_t part, int worker) const {
    const PagePool& pages = args_.pages;
    functions_.score({.head_dim = pages.head_dim,
                      .stride = args_.stride,
                      .is_bf16 = is_bf16_,
                      .scale = scale_,
                      .first_group = args_.query_offset / args_.stride,
                      .panels = at(layout_.packed),
                      .panel_bytes = layout_.panel_bytes,
                      .panel_count = layout_.panels,
                      .heads = heads_,
                      .pages = reinterpret_cast<const std::byte*>(pages.base) +
                               args_.kv_head * 2 * kPageTokens * pages.head_dim * element_bytes_,
                      .page_bytes = pages.page_bytes,
                      .page_table = args_.page_table,
                      .length = args_.query_offset + args_.rows,
                      .first_key = part * kPartKeys,
                      .states = states(0),
                      .state_blocks = layout_.state_blocks,
                      .scratch = at(layout_.scratch + worker * layout_.worker_bytes)});
  }

  void finish(int64_t unit) const {
    const int64_t panel = unit / heads_, head = unit % heads_;
    const int64_t groups = divide_up(args_.rows, args_.stride) - panel * kGroupsAtOnce;
    const int groups_of_tile = static_cast<int>(kMassBlock / args_.stride);
    const int64_t tiles = divide_up(args_.rows, kMassBlock);
    const int64_t all_blocks = divide_up(args_.query_offset + args_.rows, kMassBlock);
    const int64_t last_group =
        args_.query_offset / args_.stride + panel * kGroupsAtOnce + kGroupsAtOnce - 1;
    const int64_t blocks = std::min(all_blocks, last_group / groups_of_tile + 1);
    const int64_t first_tile = panel * kGroupsAtOnce / groups_of_tile;
    const GroupFinish found{
        .states = states(unit),
        .blocks = blocks,
        .scale = scale_,
        .groups = static_cast<int>(std::min<int64_t>(groups, kGroupsAtOnce)),
        .groups_of_tile = groups_of_tile,
        .masses = args_.masses + (head * tiles + first_tile) * args_.mass_row_stride,
        .mass_row_stride = args_.mass_row_stride};
    functions_.finish(found);
    for (int64_t tile = 0; tile * groups_of_tile < found.groups; ++tile) {
      float* masses = found.masses + tile * args_.mass_row_stride;
      std::fill(masses + blocks, masses + all_blocks, 0.0f);
    }
  }

 private:
  int64_t panel_rows() const { return int64_t{kGroupsAtOnce} * args_.stride; }
  std::byte* at(int64_t offset) const {
    return reinterpret_cast<std::byte*>(args_.workspace) + offset;
  }
  float* states(int64_t unit) const {
    return reinterpret_cast<float*>(at(layout_.states)) +
           unit * layout_.state_blocks * kStateFloats;
  }

  const AntidiagonalArgs& args_;
  const Layout& layout_;
  const GroupFunctions& functions_;
  const int64_t heads_;
  const bool is_bf16_;
  const int64_t element_bytes_;
  const float scale_;
};

void run(const CpuContext& context, const AntidiagonalArgs& args, const GroupFunctions& functions) {
  const Layout layout(functions.element_bytes, std::ssize(args.heads), args.pages.head_dim,
                      args.stride, args.rows, args.query_offset + args.rows, context.pool.size());
  const GroupRun groups(args, layout, functions);
  const auto unless_cancelled = [&context](auto work) {
    return [&context, work](int64_t task, int worker) {
      if (!context.cancelled()) work(task, worker);
    };
  };
  context.pool.parallel(groups.units(),
                        unless_cancelled([&groups](int64_t unit, int) { groups.pack(unit); }));
  context.pool.parallel(layout.parts, unless_cancelled([&groups](int64_t part, int worker) {
                          groups.score(part, worker);
                        }));
  context.pool.parallel(groups.units(),
                        unless_cancelled([&groups](int64_t unit, int) { groups.finish(unit); }));
}

bool any(const AntidiagonalArgs&) { return true; }

#if defined(__x86_64__)
bool is_fast(const AntidiagonalArgs& args) { return args.stride == 8 || args.stride == 16; }
bool is_fast_bf16(const AntidiagonalArgs& args) {
  return is_fast(args) && args.pages.dtype == DType::kBF16;
}
void run_avx2(const CpuContext& context, const AntidiagonalArgs& args) {
  run(context, args,
      {.pack = pack_groups_avx2, .score = score_groups_avx2, .finish = finish_groups_avx2});
}
void run_avx512(const CpuContext& context, const AntidiagonalArgs& args) {
  run(context, args,
      {.pack = pack_groups_avx512, .score = score_groups_avx512, .finish = finish_groups_avx512});
}
void run_amx(const CpuContext& context, const AntidiagonalArgs& args) {
  run(context, args,
      {.pack = pack_groups_amx,
       .score = score_groups_amx,
       .finish = finish_groups_avx512,
       .element_bytes = 2});
}
#endif

constexpr AntidiagonalImplementation kTable[] = {
    {"antidiagonal_ref", Isa::kScalar, any, 0, run_antidiagonal_reference},
#if defined(__x86_64__)
    {"antidiagonal_avx2", Isa::kAvx2, is_fast, 1, run_avx2},
    {"antidiagonal_avx512", Isa::kAvx512, is_fast, 2, run_avx512},
    {"antidiagonal_amx", Isa::kAmxBf16, is_fast_bf16, 3, run_amx},
#endif
};

}  // namespace

size_t antidiagonal_workspace_bytes(int heads, int head_dim, int stride, int64_t max_rows,
                                    int64_t max_length, int threads) {
  return static_cast<size_t>(
      Layout(sizeof(float), heads, head_dim, stride, max_rows, max_length, threads).size);
}

void run_antidiagonal(const CpuContext& context, const AntidiagonalArgs& args, Isa at_most) {
  if (args.pages.dtype == DType::kF16)
    throw Error(ErrorCode::kInvalidArgument, "expected pages in f32 or bf16, found f16",
                "run_antidiagonal");
  find<AntidiagonalArgs, Run>(kTable, args, at_most).run(context, args);
}

std::string_view antidiagonal_implementation(const AntidiagonalArgs& args, Isa at_most) {
  return find<AntidiagonalArgs, Run>(kTable, args, at_most).name;
}

}  // namespace kvasir::kernels
