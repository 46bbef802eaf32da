// Searches that ask questions, on the shipped model and short prompts.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "engine/auto_prefill.h"
#include "prefill/triangle_layers.h"
#include "search/auto.h"
#include "search/trianglemix.h"

namespace kvasir::search {
namespace {

const EngineOptions kEngine{.model = KVASIR_SOURCE_DIR "/models/bootstrap-16m", .device = "cpu"};

std::string book() {
  return read_file(KVASIR_SOURCE_DIR "/examples/frankenstein.txt").value().substr(0, 60000);
}

std::filesystem::path file(const std::string& name) {
  return std::filesystem::temp_directory_path() /
         ("kvasir-search-" + std::to_string(::getpid()) + "-" + name);
}

TEST(SearchTriangleMix, ScoresEveryLayerAndStaysWithinTheBound) {
  const std::filesystem::path out = file("tri.json");
  const auto search = [&](double bound) {
    return search_trianglemix(kEngine, {.document = book(),
                                        .tasks = {"var"},
                                        .length = 1300,
                                        .documents = 1,
                                        .bound = bound,
                                        .output = out});
  };
  const TriangleMixResult result = search(1e-3);
  ASSERT_EQ(result.scores.size(), 8u);
  EXPECT_EQ(result.scores[7], 0) << "the last layer's rows that count are dense: exactly equal";
  EXPECT_GT(*std::ranges::max_element(result.scores), 0);
  EXPECT_EQ(result.prompts, 4);
  EXPECT_GT(result.tokens, result.prompts);
  EXPECT_LE(result.kl, 1e-3);
  EXPECT_NE(std::ranges::find(result.layers, 7), result.layers.end());
  const auto read = prefill::parse_triangle_layers(read_file(out).value(), out.string(), 8).value();
  EXPECT_EQ(read.layers, result.layers);
  EXPECT_EQ(search(100).layers.size(), 8u) << "all of them, where nothing is asked for";
  std::filesystem::remove(out);
}

TEST(SearchAuto, WritesWhatAutoReads) {
  const std::filesystem::path out = file("auto.json");
  prefill::AutoTable other;
  other.at("another").measurements = {{.length = 1, .method = {"dense", {}}}};
  write_file(out, write_auto_table(other)).value();
  int64_t done = 0, total = -1;
  const prefill::AutoDevice device = search_auto(
      kEngine,
      {.document = book(),
       .methods = {{"tri_shape", {{"local", "256"}}}, {"a_shape", {{"local", "64"}}}},
       .tasks = {"needle"},
       .lengths = {1500, 1000},
       .documents = 1,
       .output = out,
       .watch = {.on_progress = [&](int64_t at, int64_t all) { done = at, total = all; }}});
  EXPECT_EQ(done, total);
  const auto table = prefill::parse_auto_table(read_file(out).value(), out.string()).value();
  EXPECT_NE(table.find("another"), nullptr) << "kept";
  ASSERT_NE(table.find(engine::auto_device(inspect(kEngine))), nullptr);
  ASSERT_EQ(device.measurements.size(), 6u) << "dense and two methods, two lengths";
  for (size_t i = 0; i < 6; ++i) {
    const prefill::AutoMeasurement& each = device.measurements[i];
    EXPECT_EQ(each.length, i < 3 ? 1000 : 1500);
    EXPECT_GT(each.seconds, 0);
    EXPECT_LT(each.seconds, 60);
    EXPECT_EQ(each.questions, 4);
  }
  EXPECT_EQ(device.measurements[0].method.name, "dense");
  EXPECT_EQ(device.measurements[0].same, 4);
  EXPECT_EQ(device.measurements[0].kl, 0);
  // The question's rows do not see the document.
  EXPECT_LT(device.measurements[5].same, 4);
  EXPECT_GT(device.measurements[5].kl, device.measurements[4].kl);
  EXPECT_NE(prefill::choose_prefill(device, 1500, prefill::kAutoBound).method.name, "a_shape");
  std::filesystem::remove(out);
}

TEST(SearchAuto, MistakesAreFoundBeforeAnythingIsMeasured) {
  const auto code = [](AutoSearch search) {
    search.document = book();
    search.output = file("none.json");
    try {
      search_auto(kEngine, search);
      return ErrorCode::kInternal;
    } catch (const Error& error) {
      return error.code();
    }
  };
  EXPECT_EQ(code({.lengths = {100}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.lengths = {70000}}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({.tasks = {"needles"}}), ErrorCode::kNotFound);
  EXPECT_EQ(code({.methods = {{"tri", {}}}}), ErrorCode::kNotFound);
  EXPECT_EQ(code({.methods = {{"auto", {}}}}), ErrorCode::kUnsupported);
  EXPECT_EQ(code({.lengths = {1000}, .watch = {.cancelled = [] { return true; }}}),
            ErrorCode::kCancelled);
}

TEST(ListedDivergence, IsTheDivergenceOfWhatIsListed) {
  const auto list = [](std::vector<std::pair<TokenId, double>> chances) {
    std::vector<TokenLogprob> listed;
    for (const auto& [token, chance] : chances)
      listed.push_back({token, static_cast<float>(std::log(chance))});
    return listed;
  };
  const auto p = list({{1, 0.5}, {2, 0.3}}), q = list({{1, 0.25}, {2, 0.25}, {3, 0.2}});
  EXPECT_NEAR(listed_divergence(p, q),
              0.5 * std::log(2) + 0.3 * std::log(1.2) + 0.2 * std::log(0.2 / 0.5), 1e-6);
  EXPECT_NEAR(listed_divergence(p, p), 0, 1e-9);
  // What is not listed counts as the least that is.
  EXPECT_NEAR(listed_divergence(list({{7, 0.99999999}}), q), std::log(1 / 0.2), 1e-5);
  EXPECT_EQ(listed_divergence({}, q), 0);
}

}  // namespace
}  // namespace kvasir::search
