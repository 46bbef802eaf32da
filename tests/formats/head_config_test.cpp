#include "formats/head_config.h"

#include <gtest/gtest.h>

#include <random>

#include "base/file.h"
#include "formats/files.h"

namespace kvasir::formats {
namespace {

constexpr HeadCounts kCounts{.layers = 2, .q_heads = 4};

std::string refusal(std::string_view text) {
  const auto result = parse_head_config(text, "heads.json", kCounts);
  if (result) return "";
  EXPECT_EQ(result.error().code(), ErrorCode::kMalformed);
  return result.error().what();
}

TEST(HeadConfig, ReadsEveryPatternAndBothKindsOfScores) {
  const auto config = parse_head_config(
                          R"([{"0": ["vertical_and_slash", 30, 800, 0.98],
                               "1": ["stream_llm", 100, 900, 12345],
                               "3": ["block_sparse", 7, 0, 1e-05]},
                              {"2": ["vertical_and_slash", -5, 9000, -1]}])",
                          "heads.json", kCounts)
                          .value();
  EXPECT_EQ(config.at(0, 0), (HeadPattern{HeadPatternKind::kVerticalSlash, 30, 800, 0.98}));
  EXPECT_EQ(config.at(0, 1), (HeadPattern{HeadPatternKind::kAShape, 100, 900, int64_t{12345}}));
  EXPECT_EQ(config.at(0, 3), (HeadPattern{HeadPatternKind::kBlockSparse, 7, 0, 1e-05}));
  EXPECT_EQ(config.at(1, 2), (HeadPattern{HeadPatternKind::kVerticalSlash, 0, 9000, int64_t{-1}}));
}

TEST(HeadConfig, GivesMissingHeadsAndLayersTheDefault) {
  const auto config =
      parse_head_config(R"([{"1": ["stream_llm", 1, 2, 0]}])", "heads.json", kCounts).value();
  const HeadPattern usual{HeadPatternKind::kVerticalSlash, 1000, 6096, int64_t{0}};
  EXPECT_EQ(config.at(0, 0), usual);
  EXPECT_EQ(config.at(1, 1), usual);
  EXPECT_EQ(config.missing(kCounts), 7);
  EXPECT_EQ(parse_head_config("[]", "heads.json", kCounts).value().missing(kCounts), 8);
}

TEST(HeadConfig, SaysWhereAFileIsWrong) {
  EXPECT_NE(refusal(R"([{}, {"3": ["diagonal", 1, 2, 0]}])")
                .find("layer 1, head 3: expected \"vertical_and_slash\", \"stream_llm\" or "
                      "\"block_sparse\", found \"diagonal\""),
            std::string::npos);
  EXPECT_NE(refusal(R"([{"4": ["stream_llm", 1, 2, 0]}])")
                .find("layer 0: expected query heads \"0\" to \"3\" as keys, found \"4\""),
            std::string::npos);
  EXPECT_NE(refusal(R"([{"0": ["stream_llm", 1, 2.5, 0]}])")
                .find("layer 0, head 0, second number: expected a whole number below 2^31, "
                      "found 2.5"),
            std::string::npos);
  EXPECT_NE(refusal(R"([{}, {}, {}])").find("expected a list of at most 2 layers, found 3"),
            std::string::npos);
  for (const char* text :
       {"", "{}", "7", "[", "[7]", R"([{"0": []}])", R"([{"0": ["stream_llm", 1, 2]}])",
        R"([{"0": [1, 1, 2, 0]}])", R"([{"0": ["stream_llm", "1", 2, 0]}])",
        R"([{"0": ["stream_llm", 1, 2147483648, 0]}])", R"([{"0": ["stream_llm", 1, 2, null]}])",
        R"([{"00": ["stream_llm", 1, 2, 0]}])", R"([{"-1": ["stream_llm", 1, 2, 0]}])",
        R"([{" 1": ["stream_llm", 1, 2, 0]}])", R"([{"0": ["stream_llm", 1, 2, 1e999]}])",
        R"([{"0": ["stream_llm", 1, 2, NaN]}])", "[{\"0\": [\"\xff\", 1, 2, 3]}]"})
    EXPECT_NE(refusal(text).find("heads.json"), std::string::npos) << text;
  EXPECT_NE(refusal(std::string(300, '[')).find("nesting"), std::string::npos);
}

TEST(HeadConfig, EveryTruncationIsAnError) {
  const std::string text = R"([{"0": ["vertical_and_slash", 30, 800, 0.98]}, {}])";
  for (size_t size = 0; size < text.size(); ++size) EXPECT_NE(refusal(text.substr(0, size)), "");
}

TEST(HeadConfig, WritesWhatTheSearchToolOfThePaperWrites) {
  const std::string text =
      R"([{"0": ["vertical_and_slash", 1000, 6096, 0.9867844], "2": ["stream_llm", 100, 800, 1.0], )"
      R"("10": ["block_sparse", 100, 0, 25]}, {}, {"1": ["vertical_and_slash", 30, 800, 1e-05]}])";
  const HeadCounts counts{.layers = 3, .q_heads = 11};
  EXPECT_EQ(write_head_config(parse_head_config(text, "x", counts).value()), text);
}

TEST(HeadConfig, RoundTripsRandomConfigurations) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const HeadCounts counts{.layers = 1 + static_cast<int>(random() % 5),
                            .q_heads = 1 + static_cast<int>(random() % 20)};
    HeadConfig config;
    config.layers.resize(random() % (counts.layers + 1));
    for (auto& heads : config.layers)
      for (int head = 0; head < counts.q_heads; ++head) {
        if (random() % 4 == 0) continue;
        HeadPattern& pattern = heads[head];
        pattern.kind = static_cast<HeadPatternKind>(random() % 3);
        pattern.first = static_cast<int32_t>(random() >> 1);
        pattern.second = static_cast<int32_t>(random() % 10000);
        if (random() % 2)
          pattern.score = std::uniform_real_distribution<double>(-2, 2)(random);
        else
          pattern.score = static_cast<int64_t>(random());
      }
    const std::string text = write_head_config(config);
    const HeadConfig again = parse_head_config(text, "x", counts).value();
    EXPECT_EQ(again, config);
    EXPECT_EQ(write_head_config(again), text);
  }
}

TEST(HeadConfig, ReadsWhatConfigJsonEmbeds) {
  const auto dual = [](std::string_view text) {
    return parse_dual_chunk_attention(text, "config.json", kCounts);
  };
  EXPECT_FALSE(dual(R"({"model_type": "qwen2"})").value());
  EXPECT_FALSE(dual(R"({"dual_chunk_attention_config": null})").value());
  const auto plain = dual(R"({"dual_chunk_attention_config": {}})").value().value();
  EXPECT_EQ(plain.chunk_size, 8192);
  EXPECT_EQ(plain.local_size, 1024);
  EXPECT_EQ(plain.original_max_positions, 0);
  EXPECT_FALSE(plain.has_sparse_attention);
  EXPECT_EQ(plain.sparse_threshold, 32768);
  EXPECT_EQ(plain.sparse_last_queries, 64);
  const auto full = dual(R"({"dual_chunk_attention_config": {
      "chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144,
      "sparse_attention_config": [{"1": ["vertical_and_slash", 30, 800, 3]}],
      "sparse_attention_threshold": 9, "sparse_attention_last_q": 32}})")
                        .value()
                        .value();
  EXPECT_EQ(full.chunk_size, 262144);
  EXPECT_EQ(full.local_size, 8192);
  EXPECT_EQ(full.original_max_positions, 262144);
  EXPECT_TRUE(full.has_sparse_attention);
  EXPECT_EQ(full.sparse_threshold, 9);
  EXPECT_EQ(full.sparse_last_queries, 32);
  EXPECT_EQ(full.heads.value().at(0, 1).second, 800);
  EXPECT_FALSE(dual("[]"));
  EXPECT_FALSE(dual(R"({"dual_chunk_attention_config": 3})"));
  const auto wrong =
      dual(R"({"dual_chunk_attention_config": {"sparse_attention_config": [{"9": 1}]}})");
  ASSERT_FALSE(wrong);
  EXPECT_NE(std::string(wrong.error().what()).find("dual_chunk_attention_config"),
            std::string::npos);
}

TEST(HeadConfig, PrefersTheFileBesideTheCheckpoint) {
  const TemporaryFolder folder;
  EXPECT_EQ(find_head_config(folder.path(), kCounts).error().code(), ErrorCode::kNotFound);
  folder.write("config.json", "{}");
  EXPECT_FALSE(find_head_config(folder.path(), kCounts).value());
  folder.write("config.json", R"({"dual_chunk_attention_config": {
      "sparse_attention_config": [{"0": ["vertical_and_slash", 1, 2, 3]}]}})");
  EXPECT_EQ(find_head_config(folder.path(), kCounts).value().value().at(0, 0).second, 2);
  folder.write("sparse_attention_config.json", R"([{"0": ["vertical_and_slash", 1, 5, 3]}])");
  EXPECT_EQ(find_head_config(folder.path(), kCounts).value().value().at(0, 0).second, 5);
  folder.write("sparse_attention_config.json", "[1]");
  EXPECT_FALSE(find_head_config(folder.path(), kCounts));
}

}  // namespace
}  // namespace kvasir::formats
