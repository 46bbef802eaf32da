#include "kv/kv_manager.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "kv/content.h"

namespace kvasir::kv::test {
namespace {

class Kv : public ::testing::Test {
 protected:
  void TearDown() override {
    for (KvManager* kv : {&kv_, &tiny_}) EXPECT_NO_THROW(kv->check_invariants());
  }
  void expect_right(const KvManager& kv, SequenceId sequence, const Tokens& tokens) {
    EXPECT_TRUE(std::ranges::equal(kv.tokens(sequence), tokens));
    EXPECT_EQ(wrong_positions(kv, 0, sequence), 0);
  }

  KvManager kv_{kGeometry, 32};
  KvManager tiny_{kGeometry, 4};
};

ErrorCode code_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return ErrorCode::kInternal;
}

TEST_F(Kv, PagesAreAlignedAndDistinct) {
  const SequenceId a = prefill(kv_, 0, counting(200));
  std::vector<uint32_t> pages;
  for (int layer = 0; layer < kLayers; ++layer) {
    EXPECT_EQ(kv_.page_table(a, layer).size(), 4u);
    for (uint32_t page : kv_.page_table(a, layer)) {
      pages.push_back(page);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(kv_.page_pool().page(page)) % 64, 0u);
    }
  }
  std::ranges::sort(pages);
  EXPECT_EQ(std::ranges::adjacent_find(pages), pages.end());
  EXPECT_EQ(kGeometry.bytes_per_token(), kLayers * kHeads * 2 * 8);
  EXPECT_EQ(kv_.stats().used_blocks, 4);
  EXPECT_EQ(kv_.stats().free_blocks, 28);
}

TEST_F(Kv, MatchIsExactToTheToken) {
  const Tokens document = counting(150);
  kv_.release(prefill(kv_, 0, document));
  EXPECT_EQ(kv_.stats().cached_blocks, 3);
  for (int64_t equal : {0, 1, 63, 64, 65, 127, 128, 129, 149, 150}) {
    const Tokens prompt = first_of(document, equal) + counting(70, 1000);
    EXPECT_EQ(kv_.match_length(0, prompt), equal);
    const SequenceId sequence = prefill(kv_, 0, prompt);
    expect_right(kv_, sequence, prompt);
    kv_.release(sequence, false);
  }
  // At least one token is left to compute, at every length.
  for (int64_t length : {1, 2, 64, 65, 128, 129, 150})
    EXPECT_EQ(kv_.match_length(0, first_of(document, length)), length - 1);
  EXPECT_EQ(kv_.match_length(0, Tokens{}), 0);
  EXPECT_EQ(kv_.match_length(1, document), 0) << "another domain";
}

TEST_F(Kv, ASequenceInTheMakingIsShared) {
  const Tokens document = counting(150);
  const SequenceId a = kv_.open(0, document);
  append(kv_, 0, a, std::span(document).first(100));
  const SequenceId b = kv_.open(0, document);
  EXPECT_EQ(kv_.length(b), 100);
  EXPECT_EQ(kv_.page_table(b, 0)[0], kv_.page_table(a, 0)[0]);
  EXPECT_EQ(kv_.page_table(b, 0)[1], kv_.page_table(a, 0)[1]);
  // The first writer goes on in place, the other one gets a copy when it writes.
  const uint32_t page = kv_.page_table(a, 0)[1];
  append(kv_, 0, a, std::span(document).subspan(100));
  EXPECT_EQ(kv_.page_table(a, 0)[1], page);
  append(kv_, 0, b, counting(10, 5000));
  EXPECT_NE(kv_.page_table(b, 0)[1], page);
  expect_right(kv_, a, document);
  expect_right(kv_, b, first_of(document, 100) + counting(10, 5000));
}

TEST_F(Kv, ReservedRoomStaysWritableWhileOthersShare) {
  const SequenceId a = prefill(kv_, 0, counting(10));
  kv_.reserve(a, 100).value();
  EXPECT_EQ(kv_.reserved_length(a), 100);
  const SequenceId b = kv_.open(0, counting(20));
  const SequenceId c = kv_.fork(a).value();
  EXPECT_EQ(kv_.reserved_length(c), 10);
  EXPECT_EQ(kv_.page_table(c, 0).size(), 1u);
  const Tokens more = counting(50, 300);
  write(kv_, 0, a, more);
  kv_.commit(a, more);
  for (SequenceId s : {b, c}) expect_right(kv_, s, counting(10));
  expect_right(kv_, a, counting(10) + more);
}

TEST_F(Kv, ALaterTurnAppendsToTheCachedTailInPlace) {
  const Tokens turn = counting(100);
  const SequenceId a = prefill(kv_, 0, turn);
  const uint32_t page = kv_.page_table(a, 0)[1];
  kv_.release(a);
  const SequenceId b = prefill(kv_, 0, turn + counting(5, 900));
  EXPECT_EQ(kv_.page_table(b, 0)[1], page);
  EXPECT_EQ(kv_.stats().used_blocks + kv_.stats().cached_blocks, 2);
  expect_right(kv_, b, turn + counting(5, 900));
}

TEST_F(Kv, ForksCostNothingUntilTheyDiffer) {
  const Tokens prompt = counting(130);
  const SequenceId a = prefill(kv_, 0, prompt);
  std::vector<SequenceId> forks;
  for (int i = 0; i < 4; ++i) forks.push_back(kv_.fork(a).value());
  EXPECT_EQ(kv_.stats().used_blocks, 3);
  for (int i = 0; i < 4; ++i) append(kv_, 0, forks[i], counting(3, 1000 * (i + 1)));
  EXPECT_EQ(kv_.stats().used_blocks, 3 + 4);
  expect_right(kv_, a, prompt);
  for (int i = 0; i < 4; ++i) expect_right(kv_, forks[i], prompt + counting(3, 1000 * (i + 1)));
}

TEST_F(Kv, TheLastOfTheForksNeedsNoCopy) {
  const SequenceId a = prefill(kv_, 0, counting(70));
  const SequenceId b = kv_.fork(a).value();
  kv_.release(a, false);
  append(kv_, 0, b, counting(3, 500));
  EXPECT_EQ(kv_.stats().used_blocks, 2);
  EXPECT_EQ(kv_.stats().cached_blocks, 0);
  expect_right(kv_, b, counting(70) + counting(3, 500));
}

TEST_F(Kv, ABlockComputedTwiceIsKeptOnce) {
  const Tokens document = counting(200);
  const SequenceId a = kv_.open(0, document), b = kv_.open(0, document);
  for (SequenceId s : {a, b}) kv_.reserve(s, 200).value();
  for (SequenceId s : {a, b}) write(kv_, 0, s, document);
  EXPECT_EQ(kv_.stats().used_blocks, 8);
  for (SequenceId s : {a, b}) kv_.commit(s, document);
  EXPECT_EQ(kv_.stats().used_blocks, 3 + 2) << "the partly filled last ones stay apart";
  EXPECT_EQ(kv_.page_table(a, 1)[2], kv_.page_table(b, 1)[2]);
  for (SequenceId s : {a, b}) expect_right(kv_, s, document);
}

TEST_F(Kv, TruncateOfAPrivateTailReusesItsRoom) {
  const SequenceId a = prefill(kv_, 0, counting(150));
  kv_.reserve(a, 300).value();
  kv_.truncate(a, 100);
  EXPECT_EQ(kv_.reserved_length(a), 100);
  EXPECT_EQ(kv_.stats().used_blocks, 2);
  EXPECT_EQ(kv_.stats().free_blocks, 30);
  EXPECT_EQ(kv_.match_length(0, counting(150)), 100) << "what was cut off is not findable";
  append(kv_, 0, a, counting(60, 700));
  expect_right(kv_, a, counting(100) + counting(60, 700));
  EXPECT_EQ(kv_.stats().used_blocks, 3);
}

TEST_F(Kv, TruncateIntoASharedBlockLeavesItToTheOthers) {
  for (int64_t cut : {65, 100, 64, 1, 0}) {
    const SequenceId a = prefill(kv_, 0, counting(140));
    const SequenceId b = kv_.fork(a).value();
    kv_.truncate(a, cut);
    append(kv_, 0, a, counting(30, 800));
    expect_right(kv_, a, first_of(counting(140), cut) + counting(30, 800));
    expect_right(kv_, b, counting(140));
    append(kv_, 0, b, counting(30, 900));
    expect_right(kv_, b, counting(140) + counting(30, 900));
    for (SequenceId s : {a, b}) kv_.release(s, false);
    EXPECT_EQ(kv_.stats().free_blocks, 32);
  }
}

TEST_F(Kv, TruncateIntoAKeptBlockLeavesItFindable) {
  kv_.release(prefill(kv_, 0, counting(140)));
  const SequenceId a = kv_.open(0, counting(200));
  EXPECT_EQ(kv_.length(a), 140);
  kv_.truncate(a, 100);
  append(kv_, 0, a, counting(60, 700));
  expect_right(kv_, a, counting(100) + counting(60, 700));
  EXPECT_EQ(kv_.match_length(0, counting(200)), 140);
}

TEST_F(Kv, ReleaseWithoutKeepFreesWhatNobodyElseWants) {
  const SequenceId a = prefill(kv_, 0, counting(200));
  kv_.reserve(a, 400).value();
  kv_.release(a, false);
  EXPECT_EQ(kv_.stats().free_blocks, 32);

  kv_.release(prefill(kv_, 0, counting(100)));  // kept
  const SequenceId b = prefill(kv_, 0, first_of(counting(100), 64) + counting(200, 500));
  const SequenceId c = kv_.fork(b).value();
  kv_.release(b, false);
  EXPECT_EQ(kv_.stats().used_blocks, 5);
  expect_right(kv_, c, first_of(counting(100), 64) + counting(200, 500));
  kv_.release(c, false);
  EXPECT_EQ(kv_.stats().cached_blocks, 2) << "what was kept before stays";
  EXPECT_EQ(kv_.match_length(0, counting(150)), 100);
}

TEST_F(Kv, TheLeastRecentlyUsedLeafGoesFirst) {
  const Tokens a = counting(64, 1000), b = counting(64, 2000);
  const Tokens a_more = a + counting(64, 3000);
  tiny_.release(prefill(tiny_, 0, a_more));
  tiny_.release(prefill(tiny_, 0, b));
  tiny_.release(tiny_.open(0, a_more + Tokens{1}));  // used again
  EXPECT_EQ(tiny_.stats().cached_blocks, 3);
  const SequenceId c = prefill(tiny_, 0, counting(128, 5000));  // one free block and one evicted
  EXPECT_EQ(tiny_.match_length(0, b + Tokens{1}), 0);
  EXPECT_EQ(tiny_.match_length(0, a_more + Tokens{1}), 128);
  tiny_.reserve(c, 192).value();
  EXPECT_EQ(tiny_.match_length(0, a_more + Tokens{1}), 64) << "the leaf before its parent";
}

TEST_F(Kv, AMatchedPrefixCannotBeEvicted) {
  const Tokens document = counting(128);
  tiny_.release(prefill(tiny_, 0, document));
  const SequenceId a = tiny_.open(0, document + Tokens{1});
  EXPECT_EQ(tiny_.length(a), 128);
  const SequenceId b = prefill(tiny_, 0, counting(128, 4000));
  const auto refused = tiny_.reserve(a, 129);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kResourceExhausted);
  EXPECT_NE(refused.error().message().find("1 more blocks"), std::string::npos);
  EXPECT_EQ(tiny_.reserved_length(a), 128);
  EXPECT_EQ(tiny_.page_table(a, 0).size(), 2u);
  expect_right(tiny_, a, document);
  tiny_.release(b);
  EXPECT_TRUE(tiny_.reserve(a, 256).ok());
}

TEST_F(Kv, ALoneSequenceCanFillThePool) {
  // Its match ends inside a full cached block with a descendant, all blocks are taken.
  tiny_.release(prefill(tiny_, 0, counting(256)));
  EXPECT_EQ(tiny_.stats().free_blocks, 0);
  const Tokens prompt = first_of(counting(256), 100) + counting(156, 9000);
  const SequenceId a = prefill(tiny_, 0, prompt);
  expect_right(tiny_, a, prompt);
  EXPECT_EQ(tiny_.stats().used_blocks, 4);
  EXPECT_FALSE(tiny_.reserve(a, 257).ok());
}

TEST_F(Kv, ACopyIsPreferredToForgettingTheTail) {
  tiny_.release(prefill(tiny_, 0, counting(128)));
  const SequenceId a = prefill(tiny_, 0, counting(100) + counting(20, 700));
  expect_right(tiny_, a, counting(100) + counting(20, 700));
  EXPECT_EQ(tiny_.match_length(0, counting(129)), 128);
}

TEST_F(Kv, RefusalChangesNothing) {
  const SequenceId a = prefill(tiny_, 0, counting(100));
  const SequenceId b = tiny_.fork(a).value();
  tiny_.reserve(a, 256).value();
  const KvStats before = tiny_.stats();
  EXPECT_FALSE(tiny_.reserve(b, 101).ok()) << "a copy of the tail has no room";
  EXPECT_FALSE(tiny_.reserve(a, 257).ok());
  const KvStats after = tiny_.stats();
  EXPECT_EQ(before.used_blocks, after.used_blocks);
  EXPECT_EQ(before.free_blocks, after.free_blocks);
  tiny_.release(a);
  append(tiny_, 0, b, counting(50, 400));
  expect_right(tiny_, b, counting(100) + counting(50, 400));
}

TEST_F(Kv, ClearCacheLeavesSequencesAlone) {
  kv_.release(prefill(kv_, 0, counting(300)));
  const SequenceId a = prefill(kv_, 0, counting(130) + counting(10, 900));
  kv_.clear_cache();
  EXPECT_EQ(kv_.stats().cached_blocks, 0);
  EXPECT_EQ(kv_.stats().used_blocks, 3);
  expect_right(kv_, a, counting(130) + counting(10, 900));
  EXPECT_EQ(kv_.match_length(0, counting(300)), 130);
}

class CountedSidecar : public Sidecar {
 public:
  CountedSidecar(int64_t length, int& alive) : length_(length), alive_(alive) { ++alive_; }
  ~CountedSidecar() override { --alive_; }
  int64_t bytes() const override { return length_; }
  std::unique_ptr<Sidecar> fork(int64_t length) const override {
    if (length == 0) return nullptr;
    return std::make_unique<CountedSidecar>(length, alive_);
  }

 private:
  int64_t length_;
  int& alive_;
};

TEST_F(Kv, SidecarsLiveAndDieWithTheirSequence) {
  int alive = 0;
  const SequenceId a = prefill(kv_, 0, counting(100));
  EXPECT_EQ(kv_.sidecar(a), nullptr);
  kv_.set_sidecar(a, std::make_unique<CountedSidecar>(100, alive));
  const SequenceId b = kv_.fork(a).value();
  ASSERT_NE(kv_.sidecar(b), nullptr);
  EXPECT_NE(kv_.sidecar(b), kv_.sidecar(a));
  kv_.truncate(b, 40);
  EXPECT_EQ(kv_.stats().sidecar_bytes, 140);
  kv_.truncate(b, 0);
  EXPECT_EQ(kv_.sidecar(b), nullptr);
  EXPECT_EQ(alive, 1);
  kv_.release(a);
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(kv_.stats().sidecar_bytes, 0);
}

TEST_F(Kv, CallersMistakesAreNamed) {
  const SequenceId a = prefill(kv_, 0, counting(10));
  const Tokens tokens = counting(5);
  EXPECT_EQ(code_of([&] { kv_.commit(a, tokens); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { kv_.truncate(a, 11); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { kv_.page_table(a, kLayers); }), ErrorCode::kInvalidArgument);
  kv_.release(a);
  EXPECT_EQ(code_of([&] { kv_.release(a); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { kv_.length(kNoSequence); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { KvManager none(kGeometry, 0); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of([&] { KvManager huge(kGeometry, int64_t{1} << 31); }),
            ErrorCode::kResourceExhausted);
}

}  // namespace
}  // namespace kvasir::kv::test
