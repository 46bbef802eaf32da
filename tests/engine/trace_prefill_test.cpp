// What is traced of a prompt: every row once, and recall against the softmax written out.

#include "engine/trace_prefill.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/test_model.h"
#include "engine/text_pass.h"
#include "engine/tiny_model.h"

namespace kvasir::engine {
namespace {

constexpr int64_t kTokens = 300, kChunk = 70;
constexpr int kLayers = 4, kHeads = 4;

std::vector<TokenId> prompt() {
  std::vector<TokenId> tokens{0};
  for (int64_t i = 1; i < kTokens; ++i) tokens.push_back(static_cast<TokenId>(2 + i * i * 7 % 93));
  return tokens;
}

using HeadKey = std::pair<int, int>;  // layer, head

struct Trace {
  std::map<HeadKey, std::vector<int>> times;  // [tokens] how often a row came
  std::map<HeadKey, kernels::PlanSize> sizes;
  std::map<HeadKey, std::vector<double>> recalls;  // in the order of the queries
  bool has_plan = false;
};

Trace trace(const TinyModel& tiny, const MethodChoice& prefill, int64_t sampled) {
  Trace found;
  trace_prefill(
      {.model = tiny.folder(), .dtype = "f32", .threads = 2, .chunk = kChunk}, prompt(),
      {.prefill = prefill,
       .sampled_queries = sampled,
       .on_rows =
           [&](int layer, const kernels::PlannedRows& rows) {
             auto& times = found.times[{layer, rows.head}];
             times.resize(kTokens);
             for (int64_t i = 0; i < rows.rows; ++i)
               ++times.at(static_cast<size_t>(rows.query_offset + i));
             found.sizes[{layer, rows.head}] += plan_size(rows);
             found.has_plan |= rows.plan != nullptr;
           },
       .on_recall = [&](int layer, int head,
                        double recall) { found.recalls[{layer, head}].push_back(recall); }});
  return found;
}

TEST(TracePrefill, EveryRowComesOnce) {
  const TinyModel tiny(kLayers);
  for (const MethodChoice& prefill :
       {MethodChoice{"dense", {}}, MethodChoice{"tri_shape", {{"init", "10"}, {"local", "50"}}}}) {
    const Trace found = trace(tiny, prefill, 64);
    ASSERT_EQ(found.times.size(), static_cast<size_t>(kLayers * kHeads));
    for (const auto& [head, times] : found.times)
      EXPECT_EQ(times, std::vector<int>(kTokens, 1)) << prefill.name;
    EXPECT_EQ(found.has_plan, prefill.name != "dense");
    for (const auto& [head, recalls] : found.recalls) EXPECT_EQ(recalls.size(), 64u);
  }
}

TEST(TracePrefill, DenseKeepsEverything) {
  const TinyModel tiny(kLayers);
  const Trace found = trace(tiny, {"dense", {}}, 1000);
  for (const auto& [head, recalls] : found.recalls)
    EXPECT_EQ(recalls, std::vector<double>(kTokens, 1.0)) << "no more queries than there are";
  for (const auto& [head, size] : found.sizes) {
    EXPECT_EQ(size.required, kTokens * (kTokens + 1) / 2);
    EXPECT_EQ(size.density(), 1);
  }
}

// The weight of the keys that a mask lets through, from the queries and the pages themselves.
class MaskedWeight final : public models::AttentionObserver {
 public:
  MaskedWeight(int64_t init, int64_t local) : init_(init), local_(local) {}

  void on_attention(int layer, const kernels::CpuContext&,
                    const kernels::AttentionArgs& args) override {
    for (const kernels::AttentionSpan& span : args.spans)
      for (int64_t row = 0; row < span.rows; ++row)
        for (int head = 0; head < args.q_heads; ++head)
          weights[{layer, head}].push_back(weight(args, span, row, head));
  }

  std::map<HeadKey, std::vector<double>> weights;

 private:
  double weight(const kernels::AttentionArgs& args, const kernels::AttentionSpan& span, int64_t row,
                int head) const {
    const int head_dim = args.pages.head_dim;
    const float* q = static_cast<const float*>(args.q) +
                     (span.first_row + row) * args.q_row_stride + int64_t{head} * head_dim;
    const int kv_head = head / (args.q_heads / args.pages.kv_heads);
    const int64_t position = span.query_offset + row;
    double kept = 0, all = 0;
    for (int64_t key = 0; key <= position; ++key) {
      const auto* page = reinterpret_cast<const float*>(
          args.pages.page(span.page_table[key / kernels::kPageTokens]));
      const float* k =
          page +
          (int64_t{kv_head} * 2 * kernels::kPageTokens + key % kernels::kPageTokens) * head_dim;
      double score = 0;
      for (int i = 0; i < head_dim; ++i) score += double{q[i]} * k[i];
      const double term = std::exp(score * static_cast<double>(args.scale));
      all += term;
      if (key < init_ || position - key < local_) kept += term;
    }
    return kept / all;
  }

  const int64_t init_, local_;
};

TEST(TracePrefill, RecallIsTheWeightOfTheKeysLetThrough) {
  const TinyModel tiny(kLayers);
  const MethodChoice prefill{"a_shape", {{"init", "10"}, {"local", "50"}}};
  const Trace found = trace(tiny, prefill, kTokens);

  TestModel model(tiny.folder(), DType::kF32);
  MaskedWeight expected(10, 50);
  static_cast<CpuExecutor&>(*model.executor).observe(&expected);
  TextPass pass(*model.executor, *model.kv, 1,
                prefill::make_planner(prefill, {.layers = kLayers}).value());
  const std::vector<TokenId> tokens = prompt();
  pass.begin(tokens);
  for (int64_t done = 0; done < kTokens; done += kChunk)
    pass.run(std::min(kChunk, kTokens - done), false);

  double least = 1;
  ASSERT_EQ(found.recalls.size(), expected.weights.size());
  for (const auto& [head, recalls] : found.recalls) {
    const auto& weights = expected.weights[head];
    ASSERT_EQ(recalls.size(), weights.size());
    for (size_t i = 0; i < recalls.size(); ++i) {
      EXPECT_NEAR(recalls[i], weights[i], 1e-4) << "layer " << head.first << " query " << i;
      least = std::min(least, recalls[i]);
    }
  }
  EXPECT_LT(least, 0.9) << "something is left out";
}

TEST(TracePrefill, StopsWhenAsked) {
  const TinyModel tiny(kLayers);
  int64_t reached = 0;
  try {
    trace_prefill({.model = tiny.folder(), .dtype = "f32", .threads = 1, .chunk = kChunk}, prompt(),
                  {.prefill = {"dense", {}},
                   .on_rows = [](int, const auto&) {},
                   .on_recall = [](int, int, double) {},
                   .on_progress = [&](int64_t done, int64_t) { reached = done; },
                   .cancelled = [&] { return reached >= 2 * kChunk; }});
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  EXPECT_EQ(reached, 2 * kChunk);
}

TEST(TracePrefill, MoreThanTheModelReadsIsRefused) {
  const TinyModel tiny(kLayers);
  const std::vector<TokenId> tokens(2000, 5);
  EXPECT_THROW(trace_prefill({.model = tiny.folder()}, tokens, {.prefill = {"dense", {}}}), Error);
  EXPECT_THROW(trace_prefill({.model = tiny.folder()}, {}, {.prefill = {"dense", {}}}), Error);
}

}  // namespace
}  // namespace kvasir::engine
