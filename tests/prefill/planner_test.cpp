// Plans of the static methods against their masks written out, and the methods' options.

#include "prefill/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "prefill/methods.h"

namespace kvasir::prefill {
namespace {

using kernels::AttentionPlan;
using kernels::PlanSegment;
using kernels::SegmentKind;

// How many segments of a head's program let the query `row` of a span see the key at `key`.
int times_seen(const AttentionPlan& plan, int head, int64_t query_offset, int64_t row,
               int64_t key) {
  const int64_t tile = row / plan.row_tile, offset = query_offset + row - key;
  const auto program = plan.heads[static_cast<size_t>(head)];
  int seen = 0;
  for (const PlanSegment& segment : plan.segments.subspan(program.first, program.count)) {
    if (tile < segment.tile_begin || tile >= segment.tile_end) continue;
    if (offset < segment.offset_begin || offset >= segment.offset_end) continue;
    EXPECT_EQ(segment.kind, SegmentKind::kAbsolute) << "static methods need no other";
    seen += key >= segment.first && key - int64_t{segment.first} < segment.count;
  }
  return seen;
}

using Mask = std::function<bool(int64_t row, int64_t key)>;

// Cuts a prompt into chunks and asks for each.
void expect_mask(const Planner& planner, int layer, int64_t length, int64_t chunk,
                 const Mask& mask) {
  PlanBuffer buffer;
  for (int64_t first = 0; first < length; first += chunk) {
    const int64_t rows = std::min(chunk, length - first);
    const RowRange sparse = planner
                                .plan({.layer = layer,
                                       .q_heads = 3,
                                       .query_offset = first,
                                       .rows = rows,
                                       .prompt_length = length},
                                      buffer)
                                .rows;
    ASSERT_TRUE(sparse.empty() || (sparse.first >= 0 && sparse.last <= rows));
    const AttentionPlan plan = buffer.view();
    if (!sparse.empty()) {
      ASSERT_EQ(plan.heads.size(), 3u);
    }
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t key = 0; key <= first + row; ++key) {
        const bool is_sparse = row >= sparse.first && row < sparse.last;
        const int seen =
            is_sparse ? times_seen(plan, 2, first + sparse.first, row - sparse.first, key) : 1;
        ASSERT_EQ(seen, mask(first + row, key) ? 1 : 0)
            << "row " << first + row << " key " << key << " of " << length << " in chunks of "
            << chunk;
      }
  }
}

std::shared_ptr<const Planner> planner_of(const char* name,
                                          std::map<std::string, std::string> options) {
  const MethodChoice choice{name, std::move(options)};
  const Method* method = find_method(methods(), name);
  check_method_options(*method, "prefill", choice.options).value();
  return make_planner(choice, {.layers = 8}).value();
}

struct Shape {
  int64_t init, local, last;
};
constexpr Shape kShapes[] = {{0, 1, 0},   {4, 10, 0},   {10, 4, 7},   {64, 64, 1},
                             {3, 200, 5}, {500, 1, 50}, {0, 70, 1000}};

bool a_shape(const Shape& shape, int64_t row, int64_t key) {
  return key < shape.init || row - key < shape.local;
}

TEST(Planner, AShapeIsItsMask) {
  for (const Shape& shape : kShapes) {
    const auto planner = planner_of(
        "a_shape", {{"init", std::to_string(shape.init)}, {"local", std::to_string(shape.local)}});
    for (const int64_t chunk : {1, 50, 128, 400})
      expect_mask(*planner, 0, 330, chunk,
                  [&](int64_t row, int64_t key) { return a_shape(shape, row, key); });
  }
}

std::map<std::string, std::string> options_of(const Shape& shape) {
  return {{"init", std::to_string(shape.init)},
          {"local", std::to_string(shape.local)},
          {"last", std::to_string(shape.last)}};
}

TEST(Planner, TriShapeIsItsMask) {
  for (const Shape& shape : kShapes) {
    const auto planner = planner_of("tri_shape", options_of(shape));
    for (const int64_t chunk : {1, 50, 128, 400})
      expect_mask(*planner, 0, 330, chunk, [&](int64_t row, int64_t key) {
        return row >= 330 - shape.last || a_shape(shape, row, key);
      });
  }
}

TEST(Planner, TriangleMixIsTriShapeInItsLayers) {
  const Shape shape{4, 30, 20};
  auto options = options_of(shape);
  options["layers"] = "1+3-5";
  const auto named = planner_of("trianglemix", options);
  const auto upper_half = planner_of("trianglemix", options_of(shape));
  for (int layer = 0; layer < 8; ++layer) {
    const auto mask = [&](bool is_triangle) {
      return [&shape, is_triangle](int64_t row, int64_t key) {
        return !is_triangle || row >= 200 - shape.last || a_shape(shape, row, key);
      };
    };
    expect_mask(*named, layer, 200, 70, mask(layer == 1 || (layer >= 3 && layer <= 5)));
    expect_mask(*upper_half, layer, 200, 70, mask(layer >= 4));
  }
}

// Rows that see everything are left to the dense kernel.
TEST(Planner, WhatIsDenseHasNoPlan) {
  PlanBuffer buffer;
  const auto planner = planner_of("tri_shape", options_of({10, 90, 50}));
  const auto rows_of = [&](int64_t query_offset, int64_t rows) {
    const RowRange range =
        planner
            ->plan(
                {.q_heads = 1, .query_offset = query_offset, .rows = rows, .prompt_length = 1000},
                buffer)
            .rows;
    return range.empty() ? std::pair<int64_t, int64_t>() : std::pair(range.first, range.last);
  };
  using Rows = std::pair<int64_t, int64_t>;
  EXPECT_EQ(rows_of(0, 100), Rows(0, 0)) << "no longer than init and local";
  EXPECT_EQ(rows_of(0, 101), Rows(100, 101));
  EXPECT_EQ(rows_of(60, 101), Rows(40, 101));
  EXPECT_EQ(rows_of(200, 10), Rows(0, 10));
  EXPECT_EQ(rows_of(900, 100), Rows(0, 50)) << "the last 50 rows are dense";
  EXPECT_EQ(rows_of(950, 50), Rows(0, 0));
  EXPECT_EQ(rows_of(0, 1000), Rows(100, 950));
}

TEST(Planner, EveryMethodHasOne) {
  for (const Method& method : methods()) {
    const auto planner = make_planner({std::string(method.name), {}}, {.layers = 8});
    if (method.name == "auto") {  // a method takes its place before anything is planned
      EXPECT_EQ(planner.error().code(), ErrorCode::kUnsupported);
      continue;
    }
    ASSERT_TRUE(planner.ok()) << method.name;
    EXPECT_EQ(planner.value() == nullptr, method.name == "dense");
  }
  EXPECT_FALSE(make_planner({"none", {}}, {.layers = 8}).ok());
}

struct RefusedOption {
  const char *method, *name, *value, *what;
};

TEST(Planner, OptionsAreChecked) {
  const RefusedOption refused[] = {
      {"a_shape", "init", "-1",
       "--prefill a_shape:init: expected a whole number of tokens from 0 to 1073741824, found "
       "\"-1\""},
      {"a_shape", "local", "0",
       "--prefill a_shape:local: expected a whole number of tokens from 1 to 1073741824, found "
       "\"0\""},
      {"tri_shape", "last", "4k",
       "--prefill tri_shape:last: expected a whole number of tokens from 0 to 1073741824, found "
       "\"4k\""},
      {"tri_shape", "init", "99999999999",
       "--prefill tri_shape:init: expected a whole number of tokens from 0 to 1073741824, found "
       "\"99999999999\""},
      {"trianglemix", "layers", "5-3",
       "--prefill trianglemix:layers: expected ascending layers such as 12-31 or 5+7+15-35, found "
       "\"5-3\""},
      {"trianglemix", "layers", "",
       "--prefill trianglemix:layers: expected ascending layers such as 12-31 or 5+7+15-35, found "
       "\"\""},
      {"trianglemix", "layers", "3+3",
       "--prefill trianglemix:layers: expected ascending layers such as 12-31 or 5+7+15-35, found "
       "\"3+3\""},
      {"flexprefill", "gamma", "0",
       "--prefill flexprefill:gamma: expected a number above 0 and at most 1, found \"0\""},
      {"flexprefill", "tau", "-0.1",
       "--prefill flexprefill:tau: expected a number from 0 to 1, found \"-0.1\""},
      {"flexprefill", "tau", "nan",
       "--prefill flexprefill:tau: expected a number from 0 to 1, found \"nan\""},
  };
  for (const RefusedOption& each : refused) {
    const auto checked = check_method_options(*find_method(methods(), each.method), "prefill",
                                              {{each.name, each.value}});
    ASSERT_FALSE(checked.ok()) << each.what;
    EXPECT_STREQ(checked.error().what(), each.what);
  }
  for (const char* tau : {"0", "1", "0.1"})  // 0: no head is query-aware
    EXPECT_TRUE(
        check_method_options(*find_method(methods(), "flexprefill"), "prefill", {{"tau", tau}})
            .ok());
  const auto beyond = make_planner({"trianglemix", {{"layers", "6-8"}}}, {.layers = 8});
  ASSERT_FALSE(beyond.ok());
  EXPECT_STREQ(beyond.error().what(),
               "--prefill trianglemix:layers: expected layers from 0 to 7, those of the model, "
               "found 8");
}

}  // namespace
}  // namespace kvasir::prefill
