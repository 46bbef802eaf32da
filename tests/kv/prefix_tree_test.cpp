#include "kv/prefix_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <random>

#include "kv/content.h"

namespace kvasir::kv::test {
namespace {

TEST(PrefixTree, FullBlocksChain) {
  PrefixTree tree(8);
  const Tokens a = counting(64), b = counting(64, 100);
  tree.insert(3, 7, kNoBlock, a);
  tree.insert(5, 7, 3, b);
  EXPECT_EQ(tree.find_full(7, kNoBlock, a), 3u);
  EXPECT_EQ(tree.find_full(7, 3, b), 5u);
  EXPECT_EQ(tree.find_full(7, kNoBlock, b), kNoBlock) << "the same tokens elsewhere";
  EXPECT_EQ(tree.find_full(7, 3, a), kNoBlock);
  EXPECT_EQ(tree.find_full(8, kNoBlock, a), kNoBlock) << "another domain";
  EXPECT_EQ(tree.children(3), 1);
  tree.check_invariants();
  EXPECT_THROW(tree.remove(3), Error);
  tree.remove(5);
  tree.remove(3);
  EXPECT_EQ(tree.find_full(7, kNoBlock, a), kNoBlock);
  tree.check_invariants();
}

TEST(PrefixTree, FindsTheLongestCommonPrefix) {
  PrefixTree tree(8);
  tree.insert(0, 0, kNoBlock, Tokens{1, 2, 3});
  tree.insert(1, 0, kNoBlock, Tokens{1, 2, 4, 5});
  tree.insert(2, 0, kNoBlock, Tokens{1, 2, 4, 9, 9});
  tree.insert(3, 1, kNoBlock, Tokens{1, 2, 4, 5, 6, 7});
  const auto expect = [&](const Tokens& query, int64_t length) {
    const auto found = tree.find_partial(0, kNoBlock, query);
    EXPECT_EQ(found.length, length);
    EXPECT_EQ(found.block == kNoBlock, length == 0);
    EXPECT_NE(found.block, 3u);
  };
  expect({1, 2, 4, 5, 6, 7}, 4);
  expect({1, 2, 4, 9}, 4);
  expect({1, 2, 3, 0}, 3);
  expect({1}, 1);
  expect({1, 3}, 1);
  expect({0, 1}, 0);
  expect({2}, 0);
  expect({}, 0);
  tree.extend(0, Tokens{8, 8});
  expect({1, 2, 3, 8, 8, 8}, 5);
  tree.shrink(0, 1);
  expect({1, 2, 3, 8, 8, 8}, 2);
  tree.check_invariants();
}

TEST(PrefixTree, ExtendToFullAndShrinkBack) {
  PrefixTree tree(4);
  const Tokens all = counting(64);
  tree.insert(2, 0, kNoBlock, first_of(all, 60));
  EXPECT_EQ(tree.find_full(0, kNoBlock, all), kNoBlock);
  tree.extend(2, std::span(all).subspan(60));
  EXPECT_EQ(tree.find_full(0, kNoBlock, all), 2u);
  tree.check_invariants();
  tree.shrink(2, 63);
  EXPECT_EQ(tree.find_full(0, kNoBlock, all), kNoBlock);
  EXPECT_EQ(tree.find_partial(0, kNoBlock, all).length, 63);
  tree.check_invariants();
}

// With two bits of hash nearly everything collides; the tokens decide.
TEST(PrefixTree, HashCollisionsNeverMatch) {
  constexpr int64_t kBlocks = 256;
  constexpr uint64_t kSeed = 11;
  std::cout << "seed " << kSeed << '\n';
  std::mt19937_64 random(kSeed);
  PrefixTree tree(kBlocks, 3);
  std::map<std::pair<BlockIndex, Tokens>, BlockIndex> model;  // (parent, tokens)
  for (int i = 0; i < 20000; ++i) {
    const BlockIndex block = random() % kBlocks;
    if (tree.contains(block)) {
      if (tree.children(block) > 0) continue;
      const auto held = tree.tokens(block);
      model.erase({tree.parent(block), Tokens(held.begin(), held.end())});
      tree.remove(block);
      continue;
    }
    BlockIndex parent = random() % kBlocks;
    if (!tree.contains(parent)) parent = kNoBlock;
    Tokens tokens(64, 0);
    tokens[random() % 64] = static_cast<TokenId>(random() % 3);
    const auto known = model.find({parent, tokens});
    const BlockIndex found = tree.find_full(5, parent, tokens);
    ASSERT_EQ(found, known == model.end() ? kNoBlock : known->second);
    if (found != kNoBlock) continue;
    tree.insert(block, 5, parent, tokens);
    model[{parent, tokens}] = block;
    if (i % 500 == 0) tree.check_invariants();
  }
  tree.check_invariants();
}

}  // namespace
}  // namespace kvasir::kv::test
