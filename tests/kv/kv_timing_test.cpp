// Times that a person may want to see; printed, not asserted.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <vector>

#include "kv/content.h"

namespace kvasir::kv::test {
namespace {

double median_us(int repetitions, const auto& action) {
  std::vector<double> times;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    action();
    times.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
            .count());
  }
  std::ranges::nth_element(times, times.begin() + repetitions / 2);
  return times[static_cast<size_t>(repetitions) / 2];
}

TEST(KvTiming, OpenOfALongCachedPrompt) {
  constexpr int64_t kTokens = 65536;
  // Pages as small as they get: the bookkeeping of 32 layers is what is timed.
  KvManager kv({.layers = 32, .kv_heads = 1, .head_dim = 1}, 1200);
  const Tokens prompt = counting(kTokens + 30);
  const SequenceId first = kv.open(0, prompt);
  kv.reserve(first, std::ssize(prompt)).value();
  const double commit = median_us(1, [&] { kv.commit(first, prompt); });
  const double release = median_us(1, [&] { kv.release(first); });
  int64_t length = 0;
  const double open = median_us(9, [&] {
    const SequenceId sequence = kv.open(0, prompt);
    length = kv.length(sequence);
    kv.release(sequence);
  });
  EXPECT_EQ(length, std::ssize(prompt) - 1);
  const double match = median_us(9, [&] { length = kv.match_length(0, prompt); });
  const SequenceId last = kv.open(0, prompt);
  const double fork = median_us(9, [&] { kv.release(kv.fork(last).value()); });
  const double decode = median_us(30, [&] {
    kv.reserve(last, kv.length(last) + 1).value();
    kv.commit(last, Tokens{5});
  });
  std::cout << kTokens << " cached tokens, 32 layers: match " << match << " us, open and release "
            << open << " us (" << open / kTokens * 10000 << " us per 10K tokens), fork and release "
            << fork << " us, commit of all " << commit << " us, first release " << release
            << " us, reserve and commit of one token " << decode << " us\n";
}

TEST(KvTiming, Eviction) {
  constexpr int64_t kBlocks = 16384;
  KvManager kv({.layers = 1, .kv_heads = 1, .head_dim = 1}, kBlocks);
  for (int i = 0; i < kBlocks; ++i) {
    const Tokens tokens = Tokens{i} + counting(63);
    const SequenceId sequence = kv.open(0, Tokens{});
    kv.reserve(sequence, 64).value();
    kv.commit(sequence, tokens);
    kv.release(sequence);
  }
  EXPECT_EQ(kv.stats().cached_blocks, kBlocks);
  const SequenceId sequence = kv.open(0, Tokens{});
  const double time = median_us(1, [&] { kv.reserve(sequence, kBlocks * 64).value(); });
  EXPECT_EQ(kv.stats().cached_blocks, 0);
  std::cout << "evicting " << kBlocks << " blocks: " << time / kBlocks << " us a block\n";
}

}  // namespace
}  // namespace kvasir::kv::test
