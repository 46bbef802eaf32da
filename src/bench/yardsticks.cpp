#include "bench/yardsticks.h"

#include <ATen/Parallel.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "bench/harness.h"

namespace kvasir::bench {

void set_libtorch_threads(int threads) { at::set_num_threads(threads); }

double libtorch_gemm_rate(int64_t m, int64_t n, int64_t k) {
  const at::Tensor a = at::randn({m, k}).to(at::kBFloat16);
  const at::Tensor w = at::randn({n, k}).to(at::kBFloat16);
  const Timing timing = measure(5, [&] { at::linear(a, w); });
  return 2.0 * static_cast<double>(m * n * k) / timing.median_seconds;
}

double libtorch_attention_rate(int64_t heads, int64_t length, int64_t head_dim) {
  const auto random = [&] { return at::randn({1, heads, length, head_dim}).to(at::kBFloat16); };
  const at::Tensor q = random(), k = random(), v = random();
  const Timing timing = measure(
      5, [&] { at::scaled_dot_product_attention(q, k, v, std::nullopt, 0.0, /*is_causal=*/true); });
  return 4.0 * static_cast<double>(heads * head_dim) * static_cast<double>(length) *
         static_cast<double>(length + 1) / 2 / timing.median_seconds;
}

namespace {

constexpr int64_t kPieceWords = int64_t{1} << 17;  // 1 MiB

}  // namespace

ReadBuffer::ReadBuffer(ThreadPool& pool, int64_t bytes)
    : pool_(pool), memory_(static_cast<size_t>(bytes) >> 20 << 20) {
  auto* words = reinterpret_cast<uint64_t*>(memory_.data());
  pool_.parallel(this->bytes() / 8 / kPieceWords, [&](int64_t piece, int) {
    for (int64_t i = piece * kPieceWords; i < (piece + 1) * kPieceWords; ++i)
      words[i] = static_cast<uint64_t>(i);
  });
}

void ReadBuffer::read() {
  const auto* words = reinterpret_cast<const uint64_t*>(memory_.data());
  pool_.parallel(bytes() / 8 / kPieceWords, [&](int64_t piece, int) {
    const uint64_t* at = words + piece * kPieceWords;
    uint64_t sum[8] = {};
    for (int64_t i = 0; i < kPieceWords; i += 8)
      for (int lane = 0; lane < 8; ++lane) sum[lane] ^= at[i + lane];
    uint64_t all = 0;
    for (const uint64_t lane : sum) all ^= lane;
    sink_.fetch_xor(all, std::memory_order_relaxed);
  });
}

}  // namespace kvasir::bench
