// kvasir search minference on a tiny model: what is written, and going on.

#include "search/minference.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "engine/tiny_model.h"
#include "prefill/planner.h"
#include "prefill/xattention/thresholds_file.h"
#include "search/xattention.h"

namespace kvasir::search {
namespace {

using engine::TinyModel;
using formats::HeadPatternKind;
using nlohmann::json;

std::vector<TokenId> text(int64_t tokens = 700) {
  std::vector<TokenId> ids{0};
  for (int64_t i = 1; i < tokens; ++i) ids.push_back(static_cast<TokenId>(2 + i * i * 7 % 93));
  return ids;
}

class SearchMInference : public testing::Test {
 protected:
  MInferenceSearch options(const std::string& name) const {
    return {.heads = {.candidates = {{HeadPatternKind::kAShape, 8, 64, {}},
                                     {HeadPatternKind::kVerticalSlash, 40, 100, {}}},
                      .density = 0.6,
                      .chunk = 256},
            .output = tiny_.folder() / name};
  }
  std::string content(const std::string& folder, const std::string& file) const {
    return read_file(tiny_.folder() / folder / file).value();
  }

  const TinyModel tiny_{3};
  const EngineOptions engine_{.model = tiny_.folder(), .dtype = "f32", .threads = 2};
};

TEST_F(SearchMInference, WritesWhatTheMethodReads) {
  const auto summaries = search_minference(engine_, text(), options("out"));
  ASSERT_EQ(summaries.size(), 3u);
  const std::string path = tiny_.folder() / "out" / "sparse_attention_config.json";
  const auto config = formats::parse_head_config(read_file(path).value(), path, {3, 4}).value();
  EXPECT_EQ(config.missing({3, 4}), 0);
  EXPECT_TRUE(
      prefill::make_planner({"minference", {{"config", path}}}, {.layers = 3, .q_heads = 4}).ok());
  const json sidecar = json::parse(content("out", "sparse_attention_config.provenance.json"));
  EXPECT_EQ(sidecar["search"]["length"], 700);
  EXPECT_EQ(sidecar["search"]["objective"], "output");
  EXPECT_EQ(sidecar["search"]["candidates"].size(), 2u);
  EXPECT_EQ(sidecar["search"]["text"].get<std::string>(), text_hash(text()));
  ASSERT_EQ(sidecar["layers"].size(), 3u);
  for (const json& head : sidecar["layers"][2]) {
    EXPECT_EQ(head["tried"].size(), 2u);
    const double best = head["best"]["output"];
    for (const json& tried : head["tried"]) EXPECT_LE(best, tried["output"].get<double>());
    EXPECT_LE(head["best"]["density"].get<double>(), 1);
  }
}

TEST_F(SearchMInference, GoingOnGivesWhatOneSearchGives) {
  search_minference(engine_, text(), options("whole"));
  MInferenceSearch halted = options("parts");
  // Ends once the first layer is done.
  bool has_layer = false;
  halted.watch.on_progress = [&](int64_t done, int64_t total) { has_layer = 3 * done > total; };
  halted.watch.cancelled = [&] { return has_layer; };
  try {
    search_minference(engine_, text(), halted);
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  EXPECT_TRUE(std::filesystem::exists(halted.output / "layer-000.json"));
  EXPECT_FALSE(std::filesystem::exists(halted.output / "layer-002.json"));
  EXPECT_FALSE(std::filesystem::exists(halted.output / "sparse_attention_config.json"));
  const auto written = std::filesystem::last_write_time(halted.output / "layer-000.json");
  search_minference(engine_, text(), options("parts"));
  EXPECT_EQ(std::filesystem::last_write_time(halted.output / "layer-000.json"), written);
  for (const char* file : {"sparse_attention_config.json", "layer-000.json", "layer-001.json",
                           "layer-002.json", "sparse_attention_config.provenance.json"})
    EXPECT_EQ(content("whole", file), content("parts", file)) << file;
  // And once more: everything is there already.
  EXPECT_EQ(search_minference(engine_, text(), options("parts")).size(), 3u);
}

TEST_F(SearchMInference, ResultsOfAnotherSearchAreRefused) {
  search_minference(engine_, text(), options("out"));
  const auto refused = [&](std::span<const TokenId> tokens, const MInferenceSearch& search,
                           const std::string& what) {
    try {
      search_minference(engine_, tokens, search);
      ADD_FAILURE() << what;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_NE(error.message().find(what), std::string::npos) << error.what();
      EXPECT_EQ(error.message().find('\n'), std::string::npos);
    }
  };
  MInferenceSearch other = options("out");
  other.heads.density = 0.5;
  refused(text(), other, "density");
  other = options("out");
  other.heads.candidates.pop_back();
  refused(text(), other, "candidates");
  refused(text(600), options("out"), "length");
  write_file(tiny_.folder() / "out" / "layer-001.json", "{\"search\"").value();
  EXPECT_THROW(search_minference(engine_, text(), options("out")), Error);
}

TEST_F(SearchMInference, ThresholdsAreReadByTheMethod) {
  int64_t last = 0;
  const std::filesystem::path file = tiny_.folder() / "xattention.json";
  const auto summaries = search_xattention(
      engine_, text(),
      {.heads = {.recall = 0.8, .chunk = 300},
       .output = file,
       .watch = {.on_progress = [&](int64_t done, int64_t total) { last = total - done; }}});
  EXPECT_EQ(last, 0);
  ASSERT_EQ(summaries.size(), 3u);
  for (const ThresholdSummary& layer : summaries) EXPECT_GE(layer.recall, 0.8);
  const auto read =
      prefill::xattention::parse_thresholds(read_file(file).value(), file.string()).value();
  EXPECT_EQ(read.layers, 3);
  EXPECT_EQ(read.q_heads, 4);
  EXPECT_TRUE(prefill::make_planner({"xattention", {}},
                                    {.layers = 3, .q_heads = 4, .folder = tiny_.folder()})
                  .ok());
  EXPECT_THROW(search_xattention(engine_, text(),
                                 {.output = file, .watch = {.cancelled = [] { return true; }}}),
               Error);
}

}  // namespace
}  // namespace kvasir::search
