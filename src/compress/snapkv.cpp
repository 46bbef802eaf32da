#include "compress/snapkv.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/memory.h"
#include "compress/options.h"
#include "kernels/vertical_slash/vertical_slash.h"

namespace kvasir::compress {
namespace {

// SCBench's settings.
constexpr int64_t kCapacity = 4096, kWindow = 32, kKernel = 5, kBeta = 20;

class SnapKv final : public Compressor {
 public:
  // beta = 0: the same capacity in all layers.
  SnapKv(int64_t capacity, int64_t window, int64_t kernel, int64_t beta, ModelShape model,
         bool is_rolling)
      : Compressor(std::move(model), is_rolling),
        capacity_(capacity),
        window_(window),
        kernel_(kernel),
        beta_(beta) {}

  int64_t query_rows() const override { return window_; }

 protected:
  int64_t capacity(int layer, int64_t tokens) const override {
    return beta_ == 0 ? capacity_
                      : pyramid_capacity(layer, layers(), tokens, capacity_, window_, beta_);
  }
  void select_entries(const EvictionSite& site, int64_t count,
                      std::span<int32_t> kept) const override;

 private:
  const int64_t capacity_, window_, kernel_, beta_;
};

void SnapKv::select_entries(const EvictionSite& site, int64_t count,
                            std::span<int32_t> kept) const {
  const int kv_heads = site.pages.kv_heads, group = site.q_heads / kv_heads;
  const int64_t n = site.entries, ranked = n - window_;
  const Memory workspace(kernels::vertical_slash_workspace_bytes(group, site.pages.head_dim, n,
                                                                 site.context->pool.size()));
  std::vector<float> columns(static_cast<size_t>(site.q_heads * n));
  std::vector<float> offsets(static_cast<size_t>(group * n));  // not used
  std::vector<int32_t> heads(static_cast<size_t>(group));
  for (int kv_head = 0; kv_head < kv_heads; ++kv_head) {
    std::iota(heads.begin(), heads.end(), kv_head * group);
    kernels::run_vertical_slash(*site.context, {.q = site.q,
                                                .q_row_stride = site.q_row_stride,
                                                .rows = site.rows,
                                                .query_offset = n - site.rows,
                                                .pages = site.pages,
                                                .page_table = site.page_table,
                                                .kv_head = kv_head,
                                                .heads = heads,
                                                .scale = site.scale,
                                                .column_sums = columns.data() + kv_head * group * n,
                                                .offset_sums = offsets.data(),
                                                .sums_row_stride = n,
                                                .workspace = workspace.data()});
  }
  if (site.context->cancelled()) return;
  site.context->pool.parallel(kv_heads, [&](int64_t kv_head, int) {
    float* scores = columns.data() + kv_head * group * n;
    for (int head = 1; head < group; ++head)
      for (int64_t j = 0; j < ranked; ++j) scores[j] += scores[head * n + j];
    keep_highest({scores, static_cast<size_t>(ranked)}, window_, kernel_,
                 kept.subspan(static_cast<size_t>(kv_head * count), static_cast<size_t>(count)));
  });
}

}  // namespace

int64_t pyramid_capacity(int layer, int layers, int64_t tokens, int64_t capacity, int64_t window,
                         int64_t beta) {
  const int64_t mean = capacity - window;
  if (tokens < 2 * mean || layers == 1) return capacity;
  int64_t least = mean / beta, most = 2 * mean - least;
  if (most >= tokens - window) {
    most = tokens - window;
    least = 2 * mean - most;
  }
  const int64_t step = (most - least) / (layers - 1);
  return most - layer * step + window;
}

void keep_highest(std::span<const float> scores, int64_t window, int64_t kernel,
                  std::span<int32_t> kept) {
  const int64_t ranked = std::ssize(scores), reach = kernel / 2;
  const int64_t best = std::ssize(kept) - window;
  std::vector<float> pooled(scores.size());
  for (int64_t j = 0; j < ranked; ++j) {
    float sum = 0;
    for (int64_t i = std::max<int64_t>(0, j - reach); i <= std::min(ranked - 1, j + reach); ++i)
      sum += scores[static_cast<size_t>(i)];
    pooled[static_cast<size_t>(j)] = sum / static_cast<float>(kernel);
  }
  std::vector<int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  if (best < ranked)
    std::nth_element(order.begin(), order.begin() + best, order.end(), [&](int32_t a, int32_t b) {
      const float left = pooled[static_cast<size_t>(a)], right = pooled[static_cast<size_t>(b)];
      return left != right ? left > right : a < b;
    });
  std::sort(order.begin(), order.begin() + best);
  std::copy_n(order.begin(), best, kept.begin());
  std::iota(kept.begin() + best, kept.end(), static_cast<int32_t>(ranked));
}

Result<std::shared_ptr<const Compressor>> make_snapkv(const MethodChoice& choice,
                                                      const ModelShape& model) {
  const int64_t capacity = whole_option(choice, "capacity", kCapacity);
  const int64_t window = whole_option(choice, "window", kWindow);
  const int64_t kernel = whole_option(choice, "kernel", kKernel);
  const int64_t beta = choice.name == "pyramidkv" ? whole_option(choice, "beta", kBeta) : 0;
  if (capacity <= window)
    return Error(
        ErrorCode::kInvalidArgument,
        fmt::format("expected a capacity above the window of {}, found {}", window, capacity),
        "--compress " + choice.name);
  return std::shared_ptr<const Compressor>(
      std::make_shared<SnapKv>(capacity, window, kernel, beta, model, is_rolling(choice)));
}

}  // namespace kvasir::compress
