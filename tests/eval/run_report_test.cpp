// How a summary looks.

#include "eval/run_report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace kvasir::eval {
namespace {

std::vector<Outcome> outcomes() {
  std::vector<Outcome> all;
  for (const char* task : {"ps", "kv"})
    for (int session = 0; session < 100; ++session)
      for (int turn = 0; turn < 2; ++turn)
        for (const bool is_sparse : {false, true})
          all.push_back({.suite = "tiny",
                         .task = task,
                         .length = 1024,
                         .session = session,
                         .turn = turn,
                         .prefill = is_sparse ? "a_shape:local=n/8" : "dense",
                         .score = is_sparse && turn == 1 ? 0.0 : 1.0,
                         .published = 1,
                         .prompt_tokens = 1000,
                         .cached_tokens = turn == 0 ? 0 : 990,
                         .completion_tokens = 5,
                         .ttft_seconds = turn == 0 ? 0.2 : 0.01,
                         .decode_seconds = 0.02,
                         .computed_fraction = is_sparse ? 0.25 : 1,
                         .kv_bytes = 3 << 20});
  return all;
}

TEST(RunReport, TablesOfTasksAndOfTurns) {
  EXPECT_EQ(summary_tables(summarize(outcomes()), 120),
            R"(tiny, 1,024 tokens, multi-turn

 methods     kv     ps   mean   difference
 ─────────────────────────────────────────
 dense    1.00   1.00   1.00
 a_shape  0.50*  0.50*  0.50*  -0.56…-0.43

 methods  turn 1  turn 2  computed  ttft ms  later ms  ms/token       KV  failed
 ───────────────────────────────────────────────────────────────────────────────
 dense     1.00    1.00       100%    200.0      10.0      5.00  3.0 MiB       0
 a_shape   1.00    0.00*       25%    200.0      10.0      5.00  3.0 MiB       0

a_shape is a_shape:local=n/8
Accuracy by the strict scorers; difference: of the mean from the first row's, 95 %.
*: differs, where the first row reaches 0.95 on at least 200 questions.
ttft: from a question's first step to its first token, beside whatever else ran; later: of turns
behind the first.
)");
  EXPECT_EQ(summary_tables(summarize({}), 120), "");
  std::vector<Outcome> two = outcomes();
  for (Outcome& outcome : two)
    if (outcome.prefill == "dense") outcome.prefill = "a_shape:local=n/4";
  const std::string text = summary_tables(summarize(two), 120);
  EXPECT_NE(text.find("\n a_shape:local=n/8 "), std::string::npos) << "options tell them apart";
}

TEST(RunReport, JsonHoldsEveryCell) {
  const Summary summary = summarize(outcomes());
  const auto json = nlohmann::json::parse(summary_json(summary));
  EXPECT_EQ(json["rows"][1]["prefill"], "a_shape:local=n/8");
  ASSERT_EQ(json["cells"].size(), summary.cells.size());
  for (size_t i = 0; i < summary.cells.size(); ++i) {
    EXPECT_EQ(json["cells"][i]["task"], summary.cells[i].key.task);
    EXPECT_EQ(json["cells"][i]["turn"], summary.cells[i].key.turn);
    EXPECT_EQ(json["cells"][i]["row"], summary.cells[i].row);
    EXPECT_EQ(json["cells"][i]["accuracy"], summary.cells[i].accuracy);
    EXPECT_EQ(json["cells"][i]["difference_interval"][0], summary.cells[i].difference_interval.low);
    EXPECT_EQ(json["cells"][i]["judged"], summary.cells[i].is_judged);
  }
}

}  // namespace
}  // namespace kvasir::eval
