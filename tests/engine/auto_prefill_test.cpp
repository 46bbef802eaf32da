// --prefill auto in the engine: which method runs, and what is said of it.

#include "engine/auto_prefill.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/method.h"
#include "engine/tiny_model.h"

namespace kvasir::engine {
namespace {

const MethodChoice kAuto{"auto", {}}, kDense{"dense", {}},
    kTri{"tri_shape", {{"init", "4"}, {"last", "8"}, {"local", "32"}}}, kMix{"trianglemix", {}};

std::vector<TokenId> prompt(int64_t tokens, int seed = 0) {
  std::vector<TokenId> ids{0};
  for (int64_t i = 1; i < tokens; ++i)
    ids.push_back(static_cast<TokenId>(2 + (i * i * 7 + seed * i) % 93));
  return ids;
}

prefill::AutoMeasurement measured(int64_t length, const MethodChoice& method, double seconds) {
  return {.length = length, .method = method, .seconds = seconds, .questions = 1, .same = 1};
}

void write_table(const std::filesystem::path& path, const std::string& device) {
  prefill::AutoTable table;
  table.at("another").measurements = {measured(100, kDense, 1), measured(100, kMix, 0.1)};
  table.at(device).measurements = {measured(100, kDense, 1), measured(100, kTri, 0.5),
                                   measured(400, kDense, 4), measured(400, kTri, 1),
                                   measured(400, kMix, 0.5)};
  write_file(path, write_auto_table(table)).value();
}

Event finished(Answer answer) {
  Event event;
  while (answer.next(event)) {
  }
  return event;
}

TEST(AutoPrefill, RunsWhatWasMeasuredForThisDevice) {
  const TinyModel tiny;
  const EngineOptions options{
      .model = tiny.folder(), .device = "cpu", .dtype = "f32", .threads = 2, .prefill = kAuto};
  write_table(tiny.folder() / prefill::kAutoFile, auto_device(inspect(options)));
  const auto engine = Engine::load(options);
  const auto run = [&](std::vector<TokenId> tokens, const MethodChoice& method) {
    return finished(engine->submit(
        {.prompt = std::move(tokens), .max_tokens = 2, .stages = {.prefill = method}}));
  };
  const Event chosen = run(prompt(150), kAuto);
  EXPECT_EQ(chosen.attention.prefill, "tri_shape");
  EXPECT_TRUE(chosen.attention.fallback_reason.starts_with("auto: tri_shape:init=4"))
      << chosen.attention.fallback_reason;
  EXPECT_LT(chosen.attention.computed_fraction, 1.2);

  const Event small = run(prompt(99, 1), kAuto);
  EXPECT_EQ(small.attention.prefill, "dense");
  EXPECT_NE(small.attention.fallback_reason.find("shorter than 100"), std::string::npos);

  // The KV is that of the method: asked for by its name, it is there.
  EXPECT_EQ(run(prompt(150), kTri).usage.cached_tokens, 149);
  EXPECT_LE(run(prompt(150), kDense).usage.cached_tokens, 1) << "the begin token";
  EXPECT_EQ(run(prompt(150, 2), kTri).attention.fallback_reason, "");
}

TEST(AutoPrefill, APromptThatGoesOnKeepsItsMethod) {
  const TinyModel tiny;
  const EngineOptions options{
      .model = tiny.folder(), .device = "cpu", .dtype = "f32", .threads = 2, .prefill = kAuto};
  write_table(tiny.folder() / prefill::kAutoFile, auto_device(inspect(options)));
  const auto engine = Engine::load(options);
  const auto run = [&](const std::vector<TokenId>& tokens) {
    return finished(
        engine->submit({.prompt = tokens, .max_tokens = 2, .stages = {.prefill = kAuto}}));
  };
  const std::vector<TokenId> whole = prompt(450);
  EXPECT_EQ(run({whole.begin(), whole.begin() + 300}).attention.prefill, "tri_shape");
  const Event longer = run(whole);
  EXPECT_EQ(longer.attention.prefill, "tri_shape") << "trianglemix is the choice for 450";
  EXPECT_GE(longer.usage.cached_tokens, 300);
  EXPECT_NE(longer.attention.fallback_reason.find("earlier request"), std::string::npos);
  EXPECT_EQ(run(prompt(450, 3)).attention.prefill, "trianglemix");
}

TEST(AutoPrefill, WithoutMeasurementsItIsDenseAndSaysSo) {
  const TinyModel tiny;
  const EngineOptions options{.model = tiny.folder(), .device = "cpu", .threads = 2};
  const auto run = [&] {
    const Event event = finished(Engine::load(options)->submit(
        {.prompt = prompt(150), .max_tokens = 2, .stages = {.prefill = kAuto}}));
    EXPECT_EQ(event.attention.prefill, "dense");
    return event.attention.fallback_reason;
  };
  EXPECT_NE(run().find("kvasir search auto makes them"), std::string::npos);
  write_table(tiny.folder() / prefill::kAutoFile, "yet another");
  EXPECT_NE(run().find("no measurements of"), std::string::npos);
}

TEST(AutoPrefill, BrokenAndMissingFilesAreRefused) {
  const TinyModel tiny;
  EngineOptions options{.model = tiny.folder(), .device = "cpu", .threads = 2};
  const auto code = [&](const MethodChoice& method) {
    try {
      Engine::load(options)->submit({.prompt = prompt(10), .stages = {.prefill = method}});
      return ErrorCode::kInternal;
    } catch (const Error& error) {
      EXPECT_EQ(error.message().find('\n'), std::string::npos);
      return error.code();
    }
  };
  EXPECT_EQ(code({"auto", {{"file", "none.json"}}}), ErrorCode::kNotFound);
  EXPECT_EQ(code({"auto", {{"bound", "-1"}}}), ErrorCode::kInvalidArgument);
  write_file(tiny.folder() / prefill::kAutoFile, "{}").value();
  EXPECT_EQ(code(kAuto), ErrorCode::kMalformed);
  options.prefill = kAuto;
  EXPECT_THROW(Engine::load(options), Error) << "before anything is loaded";

  // Methods that a file names are checked like those of a request.
  prefill::AutoTable table;
  table.at(auto_device(inspect({.model = tiny.folder(), .device = "cpu", .threads = 2})))
      .measurements = {measured(9, kDense, 1), measured(9, {"tri_shape", {{"lots", "1"}}}, 0.1)};
  const std::filesystem::path file = tiny.folder() / "own.json";
  write_file(file, write_auto_table(table)).value();
  options.prefill = kDense;
  EXPECT_EQ(code({"auto", {{"file", file.string()}}}), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvasir::engine
