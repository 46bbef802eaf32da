// Random operations against a simple model: tokens of each living sequence, and the histories of
// all positions ever committed. Bytes of K and V are checked through the page tables.

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <unordered_set>

#include "kv/content.h"

namespace kvasir::kv::test {
namespace {

struct Mode {
  int seed;
  int64_t blocks;
  int operations;
  bool keeps_everything;  // ample room, no truncation, every release keeps: matches are exact

  friend void PrintTo(const Mode& mode, std::ostream* out) {
    *out << "seed " << mode.seed << ", " << mode.blocks << " blocks, " << mode.operations
         << " operations";
  }
};

class KvRandom : public ::testing::TestWithParam<Mode> {
 protected:
  struct Model {
    Domain domain;
    Tokens tokens;
  };

  int64_t below(int64_t limit) {
    return std::uniform_int_distribution<int64_t>(0, limit - 1)(random_);
  }
  std::map<SequenceId, Model>::iterator any() {
    return std::next(living_.begin(), below(std::ssize(living_)));
  }
  // Runs of one or two letters, so that equal continuations are common.
  Tokens letters(int64_t count) {
    Tokens tokens(static_cast<size_t>(count));
    const int64_t variety = below(3) == 0 ? 2 : 1;
    for (TokenId& token : tokens) token = static_cast<TokenId>(below(variety));
    return tokens;
  }
  // The beginning of something known, and something else behind it.
  Tokens prompt() {
    Tokens tokens;
    if (!texts_.empty()) tokens = texts_[static_cast<size_t>(below(std::ssize(texts_)))];
    if (below(2) == 0) tokens.resize(static_cast<size_t>(below(std::ssize(tokens) + 1)));
    return tokens + letters(below(4) == 0 ? below(150) : below(3));
  }
  void remember(const Tokens& tokens) {
    if (texts_.size() < 40) {
      texts_.push_back(tokens);
    } else {
      texts_[static_cast<size_t>(below(std::ssize(texts_)))] = tokens;
    }
  }
  int64_t known_ever(Domain domain, const Tokens& prompt) const {
    uint64_t history = start_history(domain);
    int64_t length = 0;
    for (; length + 1 < std::ssize(prompt); ++length) {
      history = next_history(history, prompt[static_cast<size_t>(length)]);
      if (!ever_.contains(history)) break;
    }
    return length;
  }
  int64_t known_living(Domain domain, const Tokens& prompt) const {
    int64_t length = 0;
    for (const auto& [id, model] : living_)
      if (model.domain == domain)
        length = std::max<int64_t>(
            length, std::ranges::mismatch(model.tokens, prompt).in1 - model.tokens.begin());
    return std::clamp<int64_t>(length, 0, std::max<int64_t>(0, std::ssize(prompt) - 1));
  }
  // Blocks that living sequences hold, and how many of these hold `block`.
  std::map<uint32_t, int> used_blocks() const {
    std::map<uint32_t, int> used;
    for (const auto& [id, model] : living_)
      for (uint32_t page : kv_.page_table(id, 0)) ++used[page / kLayers];
    return used;
  }

  void open() {
    const Domain domain = static_cast<Domain>(below(3));
    const Tokens tokens = prompt();
    const int64_t expected = kv_.match_length(domain, tokens);
    EXPECT_LE(expected, known_ever(domain, tokens));
    EXPECT_GE(expected, known_living(domain, tokens));
    if (GetParam().keeps_everything) {
      EXPECT_EQ(expected, known_ever(domain, tokens));
    }
    const SequenceId id = kv_.open(domain, tokens);
    ASSERT_EQ(kv_.length(id), expected);
    ASSERT_EQ(kv_.reserved_length(id), expected);
    ASSERT_FALSE(living_.contains(id));
    living_[id] = {domain, first_of(tokens, expected)};
    taken_over_ += expected % kBlockTokens > 0;
    check(id);
    // Most of the time the rest of the prompt follows at once.
    if (below(4) > 0 && reserve(id, std::ssize(tokens)))
      commit(id, std::span(tokens).subspan(static_cast<size_t>(expected)));
  }

  bool reserve(SequenceId id, int64_t new_length) {
    const KvStats before = kv_.stats();
    const auto used = used_blocks();
    const int64_t held = std::ssize(kv_.page_table(id, 0)), length = kv_.length(id);
    const int64_t available = before.total_blocks - std::ssize(used);
    EXPECT_EQ(before.used_blocks, std::ssize(used));
    EXPECT_EQ(before.free_blocks + before.cached_blocks, available);
    const int64_t more = std::max<int64_t>(0, blocks_for(new_length) - held);
    const bool room = new_length > kv_.reserved_length(id);
    const auto result = kv_.reserve(id, new_length);
    if (result.ok()) {
      EXPECT_LE(more, available);
      EXPECT_GE(kv_.reserved_length(id), new_length);
      evictions_ += more > before.free_blocks;
      return true;
    }
    ++refusals_;
    EXPECT_TRUE(room);
    EXPECT_EQ(result.error().code(), ErrorCode::kResourceExhausted);
    EXPECT_GT(more + (length % kBlockTokens > 0), available);
    if (more <= available) {
      const uint32_t tail = kv_.page_table(id, 0)[length / kBlockTokens] / kLayers;
      EXPECT_GT(used.at(tail), 1) << "its only user needs no copy";
      ++copy_refusals_;
    }
    const KvStats after = kv_.stats();
    EXPECT_EQ(after.free_blocks, before.free_blocks);
    EXPECT_EQ(after.cached_blocks, before.cached_blocks);
    EXPECT_EQ(std::ssize(kv_.page_table(id, 0)), held);
    return false;
  }

  void commit(SequenceId id, std::span<const TokenId> tokens) {
    Model& model = living_.at(id);
    write(kv_, model.domain, id, tokens);
    const std::vector<uint32_t> table(kv_.page_table(id, 0).begin(), kv_.page_table(id, 0).end());
    kv_.commit(id, tokens);
    swaps_ += !std::ranges::equal(table, kv_.page_table(id, 0));
    model.tokens = model.tokens + tokens;
    uint64_t history = start_history(model.domain);
    for (TokenId token : model.tokens) ever_.insert(history = next_history(history, token));
  }

  // A step that was cancelled: everything reserved holds nonsense.
  void scribble(SequenceId id) {
    for (int64_t pos = kv_.length(id); pos < kv_.reserved_length(id); ++pos)
      for (int layer = 0; layer < kLayers; ++layer)
        for (int plane = 0; plane < 2 * kHeads; ++plane) *row(kv_, id, layer, plane, pos) = 0xdead;
  }

  void truncate(SequenceId id) {
    Tokens& tokens = living_.at(id).tokens;
    remember(tokens);
    tokens.resize(static_cast<size_t>(below(std::ssize(tokens) + 1)));
    kv_.truncate(id, std::ssize(tokens));
  }

  void release(SequenceId id) {
    remember(living_.at(id).tokens);
    kv_.release(id, GetParam().keeps_everything || below(3) > 0);
    living_.erase(id);
  }

  void operation() {
    const int64_t choice = below(100);
    if (living_.empty() || (choice < 20 && living_.size() < 12)) return open();
    const SequenceId id = any()->first;
    const int64_t length = kv_.length(id);
    if (choice < 40) {
      reserve(id, length + below(below(4) == 0 ? 200 : 20));
    } else if (choice < 65) {
      const int64_t room = kv_.reserved_length(id) - length;
      commit(id, letters(below(room + 1)));
    } else if (choice < 70) {
      scribble(id);
    } else if (choice < 80 && living_.size() < 12) {
      const SequenceId twin = kv_.fork(id).value();
      living_[twin] = living_.at(id);
    } else if (choice < 87 && !GetParam().keeps_everything) {
      truncate(id);
    } else if (choice == 99 && below(20) == 0 && !GetParam().keeps_everything) {
      kv_.clear_cache();
      EXPECT_EQ(kv_.stats().cached_blocks, 0);
    } else if (choice >= 87) {
      release(id);
    }
  }

  void check(SequenceId id) {
    const Model& model = living_.at(id);
    ASSERT_TRUE(std::ranges::equal(kv_.tokens(id), model.tokens));
    ASSERT_EQ(wrong_positions(kv_, model.domain, id), 0) << "sequence " << id;
  }
  void check_all() {
    for (const auto& [id, model] : living_) check(id);
    ASSERT_EQ(kv_.stats().sequences, std::ssize(living_));
  }

  std::mt19937_64 random_{static_cast<uint64_t>(GetParam().seed)};
  KvManager kv_{kGeometry, GetParam().blocks};
  std::map<SequenceId, Model> living_;
  std::vector<Tokens> texts_;
  std::unordered_set<uint64_t> ever_;
  int64_t refusals_ = 0, copy_refusals_ = 0, evictions_ = 0, swaps_ = 0, taken_over_ = 0;
};

TEST_P(KvRandom, AgreesWithTheModel) {
  for (int i = 0; i < GetParam().operations; ++i) {
    operation();
    if (i % 4 == 0) kv_.check_invariants();
    if (i % 8 == 0) check_all();
    if (HasFailure()) FAIL() << "operation " << i;
  }
  std::cout << ::testing::PrintToString(GetParam()) << ": " << refusals_ << " refusals ("
            << copy_refusals_ << " for want of a copy), " << evictions_
            << " reservations that evicted, " << swaps_ << " commits that found their block taken, "
            << taken_over_ << " matches inside a block\n";
  EXPECT_GT(swaps_, 0);
  EXPECT_GT(taken_over_, 0);
  if (GetParam().keeps_everything) {
    EXPECT_EQ(evictions_, 0);
  } else {
    EXPECT_GT(refusals_, 0);
    EXPECT_GT(evictions_, 0);
  }
  while (!living_.empty()) release(any()->first);
  kv_.clear_cache();
  kv_.check_invariants();
  EXPECT_EQ(kv_.stats().free_blocks, GetParam().blocks);
}

INSTANTIATE_TEST_SUITE_P(SmallPool, KvRandom,
                         ::testing::Values(Mode{1, 6, 60000, false}, Mode{2, 9, 60000, false},
                                           Mode{3, 12, 60000, false}, Mode{4, 16, 60000, false},
                                           Mode{5, 24, 60000, false}));
INSTANTIATE_TEST_SUITE_P(AmplePool, KvRandom,
                         ::testing::Values(Mode{6, 9000, 3000, true}, Mode{7, 9000, 3000, true}));

}  // namespace
}  // namespace kvasir::kv::test
