// kvasir info, tokenize, methods and bench.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/fake_engine.h"
#include "cli/harness.h"
#include "compress/methods.h"
#include "prefill/methods.h"
#include "retrieve/methods.h"

namespace kvasir::cli {
namespace {

using Words = std::vector<std::string>;

const std::string kModel = KVASIR_SOURCE_DIR "/models/bootstrap-16m";

TEST(Info, ShowsModelMachineAndPlan) {
  const Outcome outcome = run({"info", "--model", "fake", "--context", "2048", "--sequences", "3"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out,
            "model\n"
            "  path               fake\n"
            "  architecture       FakeForCausalLM (fake)\n"
            "  parameters         15,728,640 (15.7 M)\n"
            "  layers             8\n"
            "  hidden size        384\n"
            "  feed-forward size  1,024\n"
            "  heads              6 query, 2 KV, head_dim 64\n"
            "  vocabulary         259, embeddings tied\n"
            "  positions          100,000, rotary scaling none\n"
            "machine\n"
            "  device            cpu\n"
            "  number format     bf16\n"
            "  threads           2\n"
            "  instruction set   avx512_bf16\n"
            "  kernel gemm       avx512_bf16\n"
            "  kernel attention  avx512_bf16\n"
            "memory plan for 3 sequences of 2,048 tokens\n"
            "  KV of one token  4.0 KiB\n"
            "  weights          30.0 MiB\n"
            "  kv               24.0 MiB\n"
            "  scratch          8.0 MiB\n"
            "  program          4.0 MiB\n"
            "  in all           66.0 MiB\n"
            "  available        4.0 GiB\n");
  EXPECT_EQ(fake::log().loads, 0);
}

TEST(Info, JsonHasTheSame) {
  const auto info = nlohmann::json::parse(run({"info", "-m", "fake", "--json"}).out);
  EXPECT_EQ(info["parameters"], 15728640);
  EXPECT_EQ(info["kv_bytes_per_token"], 4096);
  EXPECT_EQ(info["context"], 100000) << "as much as is planned for";
  EXPECT_EQ(info["plan"]["kv"], 4096 * 100000);
  EXPECT_EQ(info["plan"]["total"], 31457280 + 4096 * 100000 + (12 << 20));
  EXPECT_EQ(info["kernels"]["gemm"], "avx512_bf16");
  EXPECT_EQ(info["isa"], "avx512_bf16");
}

TEST(Tokenize, NeedsNothingButTheTokenizer) {
  const Outcome ids = run({"tokenize", "-m", kModel, "-"}, {.input = "hi there\n"});
  EXPECT_EQ(ids.code, 0) << ids.err;
  EXPECT_EQ(ids.out, "0 76 77 476 203\n") << "with the begin token that the model wants";
  EXPECT_EQ(run({"tokenize", "-m", kModel, "--no-special"}, {.input = "hi there\n"}).out,
            "76 77 476 203\n");
  EXPECT_EQ(run({"tokenize", "-m", kModel}, {.input = "hi there\n"}).out, ids.out)
      << "standard input is the default";
  const std::string file = temporary_file("hi.txt", "hi there\n");
  EXPECT_EQ(run({"tokenize", "-m", kModel, file, "--json"}).out,
            "{\"tokens\":5,\"ids\":[0,76,77,476,203],"
            "\"pieces\":[\"<|begin|>\",\"h\",\"i\",\"Ġthere\",\"Ċ\"]}\n");
}

TEST(Tokenize, DecodesIds) {
  EXPECT_EQ(run({"tokenize", "-m", kModel, "--decode"}, {.input = "76 77 476"}).out, "hi there\n");
  const std::string special = run({"tokenize", "-m", kModel, "--decode"}, {.input = "0 76"}).out;
  EXPECT_EQ(special, "<|begin|>h\n");
  EXPECT_EQ(run({"tokenize", "-m", kModel, "--decode", "--no-special"}, {.input = "0 76"}).out,
            "h\n");
  EXPECT_EQ(run({"tokenize", "-m", kModel, "--decode", "--json"}, {.input = "76 77"}).out,
            "{\"tokens\":2,\"text\":\"hi\"}\n");
}

TEST(Tokenize, TextSurvivesThereAndBack) {
  const std::string text = "Größe 漢字 🙂\n\ttabs  and   spaces";
  std::string ids = run({"tokenize", "-m", kModel}, {.input = text}).out;
  EXPECT_EQ(run({"tokenize", "-m", kModel, "--decode", "--no-special"}, {.input = ids}).out,
            text + "\n");
}

TEST(Tokenize, RefusesWhatIsWrong) {
  const Outcome none = run({"tokenize", "-m", "/none", "-"}, {.input = "x"});
  EXPECT_EQ(none.code, 3);
  EXPECT_EQ(none.err,
            "kvasir: error: /none/tokenizer.json: cannot open: No such file or directory\n");
  const Outcome high = run({"tokenize", "-m", kModel, "--decode"}, {.input = "1 8192"});
  EXPECT_EQ(high.code, 4);
  EXPECT_EQ(high.err,
            "kvasir: error: standard input: id 2 of 2: expected a token id below 8192, found "
            "8192\n");
  EXPECT_EQ(run({"tokenize", "-m", kModel, "-"}, {.input = "caf\xe9"}).code, 4);
  EXPECT_EQ(run({"tokenize", "-m", kModel, "-"}, {.input = ""}).code, 4);
}

TEST(Methods, ListsEveryRegisteredMethod) {
  const Outcome table = run({"methods"}, {.width = 80});
  EXPECT_EQ(table.code, 0);
  const auto list = nlohmann::json::parse(run({"methods", "--json"}).out)["methods"];
  size_t row = 0;
  for (const auto& [stage, methods] : {std::pair{"prefill", prefill::methods()},
                                       {"compress", compress::methods()},
                                       {"retrieve", retrieve::methods()}}) {
    for (const Method& method : methods) {
      ASSERT_LT(row, list.size());
      EXPECT_EQ(list[row]["stage"], stage);
      EXPECT_EQ(list[row]["name"], method.name);
      EXPECT_EQ(list[row]["options"].size(), method.options.size());
      EXPECT_NE(table.out.find(std::string(" ") + stage), std::string::npos);
      EXPECT_NE(table.out.find("  " + std::string(method.name)), std::string::npos);
      ++row;
    }
  }
  EXPECT_EQ(row, list.size());
}

TEST(Bench, HandsItsOptionsOn) {
  const Outcome outcome = run({"bench", "prefill", "-m", "fake", "--lengths", "8,16", "--json"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "prefill lengths 2 repetitions 5 json\n");
  EXPECT_EQ(outcome.err, "measuring\n");
  EXPECT_EQ(run({"bench", "decode", "-m", "fake"}, {.fail_out_after = 3}).code, 7);
  const Outcome wrong = run({"bench", "speed", "-m", "fake"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_EQ(wrong.err,
            "kvasir: error: bench: expected one of prefill, decode, train, tokenizer, load, tasks, "
            "tiny, ruler, scbench, needle, perplexity, found 'speed'\n");
}

}  // namespace
}  // namespace kvasir::cli
