// Files of thresholds and of layers, and the search for thresholds.

#include "prefill/xattention/thresholds.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "prefill/plan_problem.h"
#include "prefill/planner.h"
#include "prefill/triangle_layers.h"
#include "prefill/xattention/thresholds_file.h"
#include "prefill/xattention/xattention.h"

namespace kvasir::prefill {
namespace {

using xattention::parse_thresholds;

class Folder {
 public:
  Folder()
      : path(std::filesystem::temp_directory_path() /
             ("kvasir-thresholds-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    write_file(path / name, text).value();
    return path / name;
  }
  const std::filesystem::path path;
};

TEST(Thresholds, MistakesAreNamed) {
  const auto good = parse_thresholds(
      R"({"schema": "kvasir-xattention/1", "stride": 16, "thresholds": [[0.5, 1], [0.25, 0.75]]})",
      "file");
  ASSERT_TRUE(good.ok()) << good.error().what();
  EXPECT_EQ(good.value().layers, 2);
  EXPECT_EQ(good.value().q_heads, 2);
  EXPECT_EQ(good.value().stride, 16);
  EXPECT_EQ(good.value().heads, (std::vector<float>{0.5f, 1, 0.25f, 0.75f}));
  for (const char* rest :
       {"", R"("stride": 9, "thresholds": [[1]])", R"("thresholds": 1)", R"("thresholds": [1])",
        R"("thresholds": [[1], [1, 1]])", R"("thresholds": [[0]])", R"("thresholds": [[1.5]])",
        R"("thresholds": [["a"]])"}) {
    const std::string comma = *rest ? ", " : "";
    EXPECT_FALSE(
        parse_thresholds(R"({"schema": "kvasir-xattention/1")" + comma + rest + "}", "file").ok())
        << rest;
  }
  EXPECT_FALSE(parse_thresholds("[]", "file").ok());
  EXPECT_FALSE(parse_thresholds("{}", "file").ok());
}

TEST(Thresholds, AreReadByTheMethod) {
  const Folder folder;
  const std::string text =
      R"({"schema": "kvasir-xattention/1", "thresholds": [[0.5, 1], [0.25, 0.75]]})";
  const ModelShape shape{.layers = 2, .q_heads = 2, .folder = folder.path};
  const auto make = [&shape](std::map<std::string, std::string> options) {
    return make_planner({"xattention", std::move(options)}, shape);
  };
  EXPECT_TRUE(make({}).ok()) << "a folder without the file";
  const std::string file = folder.write("other.json", text);
  EXPECT_TRUE(make({{"thresholds", file}}).ok());
  EXPECT_EQ(make({{"thresholds", file + "x"}}).error().code(), ErrorCode::kNotFound);
  folder.write(xattention::kThresholdsFile, "{}");
  EXPECT_EQ(make({}).error().code(), ErrorCode::kMalformed) << "the model's own is read";
  EXPECT_TRUE(make({{"threshold", "0.8"}}).ok()) << "but not where one threshold is asked for";
  const auto other = make_planner({"xattention", {{"thresholds", file}}},
                                  {.layers = 3, .q_heads = 2, .folder = folder.path});
  EXPECT_EQ(other.error().code(), ErrorCode::kInvalidArgument);
}

TEST(Thresholds, AreTheLeastThatKeepEnough) {
  const int64_t rows = 2048;
  kernels::AttentionProblem problem(
      {.q_heads = 2, .kv_heads = 1, .head_dim = 64, .spans = {{.rows = rows}}, .seed = 5},
      DType::kF32);
  // The second head looks at what is near, so that a few blocks hold nearly all.
  for (int64_t row = 0; row < rows; ++row)
    for (int i = 0; i < 64; ++i)
      f32_query(problem, row, 1)[i] = 3 * f32_row(problem, 0, 0, std::max<int64_t>(0, row - 3))[i];
  ThreadPool pool(2);
  auto spans = problem.spans();
  auto result = problem.empty_result();
  problem.run({.pool = pool}, spans, nullptr, false, result);
  std::vector<float> out(static_cast<size_t>(rows * 2 * 64));
  for (size_t i = 0; i < out.size(); ++i) out[i] = result.value(DType::kF32, i);
  const auto search = [&](double recall) {
    return xattention::search_thresholds({.pool = pool}, {.recall = recall, .chunk = 1024},
                                         queries_of(problem), {out.data(), result.lse.data()},
                                         nullptr);
  };
  const auto low = search(0.6), high = search(0.95);
  for (size_t head = 0; head < 2; ++head) {
    EXPECT_GE(low[head].measure.recall, 0.6);
    EXPECT_GE(high[head].measure.recall, 0.95);
    EXPECT_LE(low[head].threshold, high[head].threshold);
  }
  EXPECT_LT(high[1].threshold, high[0].threshold) << "little holds much";
  EXPECT_LT(high[1].measure.density, high[0].measure.density);

  // A step below, too little is kept.
  PlanMeter meter({.pool = pool}, queries_of(problem), {out.data(), result.lse.data()}, 1024);
  xattention::Options options;
  const double step = 0.95 / 64;
  options.head_thresholds = {static_cast<float>(low[0].threshold - 1.5 * step), 1};
  const kernels::CpuContext context{.pool = pool};
  const auto below =
      meter.measure([&](const LayerQueries& part, Workspace& workspace,
                        PlanBuffer& plan) { plan_layer(context, options, part, workspace, plan); },
                    {}, nullptr);
  EXPECT_LT(below[0].recall, 0.6);
}

TEST(TriangleLayers, MistakesAreNamed) {
  const auto parse = [](const std::string& rest) {
    return parse_triangle_layers(R"({"schema": "trianglemix/1")" + rest + "}", "file", 8);
  };
  const auto good = parse(R"(, "num_layers": 8, "layers": [5, 0, 7], "n_local": 64, "extra": 1)");
  ASSERT_TRUE(good.ok()) << good.error().what();
  EXPECT_EQ(good.value().layers, (std::vector<int32_t>{0, 5, 7}));
  EXPECT_EQ(good.value().local, 64);
  EXPECT_EQ(good.value().init, 8);
  EXPECT_EQ(good.value().last, 128);
  EXPECT_TRUE(parse(R"(, "num_layers": 8, "layers": [])").ok());
  for (const char* rest :
       {"", R"(, "num_layers": 8)", R"(, "num_layers": 9, "layers": [1])",
        R"(, "num_layers": 8, "layers": [8])", R"(, "num_layers": 8, "layers": [-1])",
        R"(, "num_layers": 8, "layers": [1, 1])", R"(, "num_layers": 8, "layers": ["a"])",
        R"(, "num_layers": 8, "layers": [1], "n_local": 0)",
        R"(, "num_layers": 8, "layers": [1], "n_init": -1)"})
    EXPECT_EQ(parse(rest).error().code(), ErrorCode::kMalformed) << rest;
  EXPECT_FALSE(parse_triangle_layers("{}", "file", 8).ok());
  EXPECT_FALSE(parse_triangle_layers("[]", "file", 8).ok());
}

TEST(TriangleLayers, AreReadByTheMethod) {
  const Folder folder;
  const ModelShape shape{.layers = 4, .q_heads = 1, .folder = folder.path};
  // Which of the layers have a plan for a prompt of 2000 tokens.
  const auto planned = [&shape](std::map<std::string, std::string> options) {
    const auto planner = make_planner({"trianglemix", std::move(options)}, shape).value();
    std::string layers;
    for (int layer = 0; layer < 4; ++layer) {
      PlanBuffer plan;
      const Planned rows =
          planner->plan({.layer = layer, .q_heads = 1, .rows = 2000, .prompt_length = 2000}, plan);
      if (!rows.rows.empty()) layers += std::to_string(layer);
    }
    return layers;
  };
  EXPECT_EQ(planned({}), "23") << "the upper half";
  const std::string head = R"({"schema": "trianglemix/1", "num_layers": 4, "layers": )";
  const std::string file = folder.write("other.json", head + "[0, 3]}");
  EXPECT_EQ(planned({{"config", file}}), "03");
  folder.write(kTriangleFile, head + "[1]}");
  EXPECT_EQ(planned({}), "1") << "the model's own";
  EXPECT_EQ(planned({{"layers", "0-2"}}), "012");
  folder.write(kTriangleFile, head + "[]}");
  EXPECT_EQ(planned({}), "");
  folder.write(kTriangleFile, head + "[4]}");
  EXPECT_EQ(make_planner({"trianglemix", {}}, shape).error().code(), ErrorCode::kMalformed);
  EXPECT_EQ(make_planner({"trianglemix", {{"config", "none"}}}, shape).error().code(),
            ErrorCode::kNotFound);
}

}  // namespace
}  // namespace kvasir::prefill
