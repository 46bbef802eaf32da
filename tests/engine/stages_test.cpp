// Which methods go together: every combination of this build runs or is refused in one sentence,
// and the rules by which a combination is refused.

#include "engine/stages.h"

#include <gtest/gtest.h>

#include <set>

#include "engine/fake_model.h"
#include "engine/loop.h"
#include "engine/test_model.h"
#include "engine/tiny_model.h"

namespace kvasir::engine {
namespace {

constexpr StageNeeds kAll{.chunked_prefill = true, .prefix_reuse = true, .batching = true};

void expect_one_sentence(const Error& error) {
  EXPECT_FALSE(error.message().empty());
  EXPECT_EQ(error.message().find('\n'), std::string::npos) << error.what();
  EXPECT_EQ(error.message().find(". "), std::string::npos) << error.what();
  EXPECT_TRUE(error.context().starts_with("--")) << error.what();
}

// Options by which a short prompt is sparse, too.
std::map<std::string, std::string> options_of(const Method& method) {
  std::map<std::string, std::string> options;
  for (const MethodOption& option : method.options) {
    if (option.name == "init") options["init"] = "5";
    if (option.name == "local") options["local"] = "20";
    if (option.name == "last") options["last"] = "10";
    if (option.name == "capacity") options["capacity"] = "40";
    if (option.name == "window") options["window"] = "8";
  }
  return options;
}

// Runs a prompt in chunks, beside another one, with two samples, and again from cached KV.
void run_combination(TestModel& model, const StageChoice& stages) {
  LoopOptions options;
  options.chunk_tokens = 50;
  options.step_tokens = 64;
  options.max_sequences = 8;
  options.deterministic = stages.compress.name == "plain";
  options.end_tokens = {1};
  options.make_detokenizer = [] { return std::make_unique<fake::FakeDetokenizer>(); };
  Loop loop(*model.executor, *model.kv, options);
  Request request;
  for (int i = 0; i < 150; ++i) request.prompt.push_back(static_cast<TokenId>(2 + i * 7 % 90));
  request.max_tokens = 20;
  request.samples = 2;
  request.ignore_end_tokens = true;
  request.stages = stages;
  Request other = request;
  other.prompt[0] = 95;
  // Where entries are evicted, the rows that choose are computed again.
  const int64_t cached = stages.compress.name == "streamingllm" ? 149
                         : stages.compress.name == "plain"      ? 149
                                                                : 150 - 8;
  std::vector<std::vector<TokenId>> answers;
  for (const int round : {0, 1}) {
    const Submission one = loop.submit(request).value(), two = loop.submit(other).value();
    while (loop.step()) {
    }
    for (const auto& stream : {one.events, two.events}) {
      std::vector<TokenId> tokens;
      while (const auto event = stream->try_next()) {
        if (event->kind == Event::Kind::kToken && event->sample == 0)
          tokens.push_back(event->token);
        if (event->kind != Event::Kind::kFinished) continue;
        EXPECT_EQ(event->finish_reason, FinishReason::kLength)
            << (event->error ? event->error->what() : "");
        const bool is_auto = stages.prefill.name == "auto";  // nothing was measured
        EXPECT_EQ(event->attention.prefill, is_auto ? "dense" : stages.prefill.name);
        EXPECT_EQ(event->attention.compress, stages.compress.name);
        EXPECT_EQ(event->attention.retrieve, stages.retrieve.name);
        EXPECT_GT(event->attention.computed_fraction, 0);
        EXPECT_GT(event->attention.decode_fraction, 0);
        EXPECT_EQ(event->usage.cached_tokens, round == 0 ? 0 : cached);
      }
      EXPECT_EQ(tokens.size(), 20u);
      answers.push_back(tokens);
    }
  }
  EXPECT_EQ(answers[0], answers[2]) << "cached equals cold";
  EXPECT_EQ(answers[1], answers[3]);
}

TEST(Stages, EveryCombinationRunsOrIsRefused) {
  TinyModel tiny;
  const StageTables tables = stage_tables();
  int runs = 0;
  for (const Method& prefill : tables.prefill)
    for (const Method& compress : tables.compress)
      for (const Method& retrieve : tables.retrieve) {
        const StageChoice stages{.prefill = {std::string(prefill.name), options_of(prefill)},
                                 .compress = {std::string(compress.name), options_of(compress)},
                                 .retrieve = {std::string(retrieve.name), {}}};
        SCOPED_TRACE(stages.prefill.name + ", " + stages.compress.name + ", " +
                     stages.retrieve.name);
        if (const auto checked = check_stages(stages, kAll); !checked) {
          expect_one_sentence(checked.error());
          continue;
        }
        TestModel model(tiny.folder(), DType::kF32);
        run_combination(model, stages);
        ++runs;
      }
  EXPECT_GE(runs, 4) << "the prefill methods with plain and dense at least";
  EXPECT_TRUE(check_stages({}, kAll).ok());
}

Result<void> check_share(std::string_view value) {
  if (value == "0.5") return {};
  return Error(ErrorCode::kInvalidArgument, "expected 0.5, found " + std::string(value));
}

constexpr MethodOption kShare[] = {{"share", "of the keys", check_share}};
constexpr MethodCapabilities kEverything{.chunked_prefill = true,
                                         .prefix_reuse = true,
                                         .batching = true,
                                         .quantised_kv = true,
                                         .gpu = true};
constexpr Method kPrefill[] = {
    {.name = "dense", .description = "", .capabilities = kEverything, .options = {}},
    {.name = "whole",
     .description = "",
     .capabilities = {.prefix_reuse = true, .batching = true},
     .options = {}},
    {.name = "cold",
     .description = "",
     .capabilities = {.chunked_prefill = true, .batching = true},
     .options = {}},
    {.name = "alone",
     .description = "",
     .capabilities = {.chunked_prefill = true, .prefix_reuse = true},
     .options = {}},
    {.name = "sparse", .description = "", .capabilities = kEverything, .options = kShare}};
constexpr Method kCompress[] = {
    {.name = "plain", .description = "", .capabilities = kEverything, .options = {}},
    {.name = "int4", .description = "", .capabilities = kEverything, .options = {}}};
constexpr Method kRetrieve[] = {
    {.name = "dense", .description = "", .capabilities = kEverything, .options = {}},
    {.name = "index",
     .description = "",
     .capabilities = {.chunked_prefill = true, .prefix_reuse = true, .batching = true},
     .options = {}}};
constexpr StageTables kTables{kPrefill, kCompress, kRetrieve};

struct Refused {
  StageChoice stages;
  ErrorCode code;
  const char* what;
};

TEST(Stages, RefusalsSayWhat) {
  const Refused refused[] = {
      {{.prefill = {"spars", {}}},
       ErrorCode::kNotFound,
       "--prefill: no method \"spars\"; there is dense, whole, cold, alone, sparse"},
      {{.retrieve = {"", {}}},
       ErrorCode::kNotFound,
       "--retrieve: no method \"\"; there is dense, index"},
      {{.prefill = {"dense", {{"share", "0.5"}}}},
       ErrorCode::kInvalidArgument,
       "--prefill dense:share: the method takes no options, found \"share\""},
      {{.prefill = {"sparse", {{"part", "0.5"}}}},
       ErrorCode::kInvalidArgument,
       "--prefill sparse:part: expected one of share, found \"part\""},
      {{.prefill = {"sparse", {{"share", "2"}}}},
       ErrorCode::kInvalidArgument,
       "--prefill sparse:share: expected 0.5, found 2"},
      {{.prefill = {"whole", {}}},
       ErrorCode::kUnsupported,
       "--prefill: whole does not work with prompts cut into chunks"},
      {{.prefill = {"cold", {}}},
       ErrorCode::kUnsupported,
       "--prefill: cold does not work with KV of earlier requests"},
      {{.prefill = {"alone", {}}},
       ErrorCode::kUnsupported,
       "--prefill: alone does not work with several sequences at once"},
      {{.compress = {"int4", {}}, .retrieve = {"index", {}}},
       ErrorCode::kUnsupported,
       "--retrieve: index reads plain KV only, not that of --compress int4"},
  };
  for (const Refused& each : refused) {
    const auto checked = check_stages(each.stages, kAll, kTables);
    ASSERT_FALSE(checked.ok()) << each.what;
    EXPECT_STREQ(checked.error().what(), each.what);
    EXPECT_EQ(checked.error().code(), each.code) << each.what;
    expect_one_sentence(checked.error());
  }
}

TEST(Stages, GpusRunWhatClaimsThem) {
  StageNeeds needs = kAll;
  needs.gpu = true;
  for (const Method& method : stage_tables().prefill) {
    const auto checked = check_stages({.prefill = {std::string(method.name), {}}}, needs);
    EXPECT_EQ(checked.ok(), method.capabilities.gpu) << method.name;
    if (checked.ok()) continue;
    EXPECT_EQ(checked.error().what(),
              "--prefill: " + std::string(method.name) + " does not work with --device cuda");
    expect_one_sentence(checked.error());
  }
}

TEST(Stages, WhatIsClaimedPasses) {
  EXPECT_TRUE(check_stages({.prefill = {"sparse", {{"share", "0.5"}}}}, kAll, kTables).ok());
  EXPECT_TRUE(check_stages({.compress = {"int4", {}}}, kAll, kTables).ok());
  EXPECT_TRUE(check_stages({.retrieve = {"index", {}}}, kAll, kTables).ok());
  StageNeeds on_gpu = kAll;
  on_gpu.gpu = true;
  EXPECT_TRUE(check_stages({.prefill = {"sparse", {}}}, on_gpu, kTables).ok());
  EXPECT_TRUE(check_stages({}, on_gpu).ok()) << "of this build";
  // What is not needed is not asked for.
  EXPECT_TRUE(
      check_stages({.prefill = {"whole", {}}}, {.prefix_reuse = true, .batching = true}, kTables)
          .ok());
  EXPECT_TRUE(check_stages({.prefill = {"cold", {}}}, {.chunked_prefill = true}, kTables).ok());
  EXPECT_TRUE(check_stages({.prefill = {"alone", {}}}, {.prefix_reuse = true}, kTables).ok());
}

TEST(Stages, DomainsKeepKvApart) {
  const StageChoice plain, sparse{.prefill = {"sparse", {}}},
      half{.prefill = {"sparse", {{"a", "b"}}}}, shifted{.prefill = {"sparse", {{"ab", ""}}}},
      int4{.compress = {"int4", {}}}, index{.retrieve = {"index", {}}};
  std::set<kv::Domain> domains;
  for (const StageChoice& stages : {plain, sparse, half, shifted, int4})
    domains.insert(stage_domain(1, stages));
  EXPECT_EQ(domains.size(), 5u);
  EXPECT_EQ(stage_domain(1, plain), stage_domain(1, index)) << "retrieval reads what is there";
  EXPECT_NE(stage_domain(1, plain), stage_domain(2, plain)) << "models";
  EXPECT_EQ(stage_domain(1, half), stage_domain(1, StageChoice(half)));
}

}  // namespace
}  // namespace kvasir::engine
