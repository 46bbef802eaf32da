// The scalar definition of right, in f64.

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/antidiagonal/antidiagonal.h"

namespace kvasir::kernels {
namespace {

// Sum over a pair of groups' antidiagonal.
double antidiagonal_sum(const AntidiagonalArgs& args, int head, int64_t query_group,
                        int64_t key_group) {
  const PagePool& pages = args.pages;
  const auto* q = static_cast<const std::byte*>(args.q);
  double sum = 0;
  for (int t = 0; t < args.stride; ++t) {
    const int64_t row = query_group * args.stride + args.stride - 1 - t;
    const int64_t key = key_group * args.stride + t;
    if (row >= args.rows || key >= args.query_offset + args.rows) continue;
    const std::byte* page = pages.page(args.page_table[key / kPageTokens]);
    const int64_t q_at = row * args.q_row_stride + int64_t{head} * pages.head_dim;
    const int64_t k_at =
        (int64_t{args.kv_head} * 2 * kPageTokens + key % kPageTokens) * pages.head_dim;
    for (int i = 0; i < pages.head_dim; ++i)
      sum += double{read_f32(q, pages.dtype, q_at + i)} * read_f32(page, pages.dtype, k_at + i);
  }
  return sum;
}

// Adds the shares of a query group to the masses of its row tile.
void add_shares(const AntidiagonalArgs& args, int head, int64_t query_group,
                std::vector<double>& masses) {
  const int64_t groups = (args.query_offset + query_group * args.stride) / args.stride + 1;
  std::vector<double> shares(static_cast<size_t>(groups));
  for (int64_t group = 0; group < groups; ++group)
    shares[static_cast<size_t>(group)] =
        antidiagonal_sum(args, head, query_group, group) * args.scale / args.stride;
  const double maximum = *std::ranges::max_element(shares);
  double sum = 0;
  for (double& share : shares) sum += share = std::exp(share - maximum);
  for (int64_t group = 0; group < groups; ++group)
    masses[static_cast<size_t>(group * args.stride / kMassBlock)] +=
        shares[static_cast<size_t>(group)] / sum;
}

}  // namespace

void run_antidiagonal_reference(const CpuContext& context, const AntidiagonalArgs& args) {
  const int64_t blocks = (args.query_offset + args.rows + kMassBlock - 1) / kMassBlock;
  const int64_t tiles = (args.rows + kMassBlock - 1) / kMassBlock;
  const int64_t groups = (args.rows + args.stride - 1) / args.stride;
  const int64_t groups_of_tile = kMassBlock / args.stride;
  context.pool.parallel(std::ssize(args.heads) * tiles, [&](int64_t task, int) {
    const int64_t tile = task % tiles;
    std::vector<double> masses(static_cast<size_t>(blocks));
    const int64_t last = std::min(groups, (tile + 1) * groups_of_tile);
    for (int64_t group = tile * groups_of_tile; group < last; ++group) {
      if (context.cancelled()) return;
      add_shares(args, args.heads[static_cast<size_t>(task / tiles)], group, masses);
    }
    std::ranges::transform(masses, args.masses + task * args.mass_row_stride,
                           [](double mass) { return static_cast<float>(mass); });
  });
}

}  // namespace kvasir::kernels
