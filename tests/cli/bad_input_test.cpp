// The real program on folders that are wrong in one way each: one line on standard error that says
// what was expected and found and where, the documented exit code, no partial file.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/harness.h"
#include "engine/tiny_model.h"

namespace kvasir::cli {
namespace {

using Json = nlohmann::ordered_json;
using Words = std::vector<std::string>;

// A byte-level tokenizer for the tiny model's 96 ids: two special tokens, then the printable ASCII
// characters, with space and newline in place of two of them.
std::string tiny_tokenizer() {
  Json vocab = {{"<s>", 0}, {"</s>", 1}};
  for (int id = 2; id < 96; ++id) {
    const std::string letter(1, static_cast<char>('!' + id - 2));
    vocab[letter == "~" ? "Ġ" : letter == "}" ? "Ċ" : letter] = id;
  }
  const auto special = [](int id, const char* text) {
    return Json{{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
                {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const Json tokenizer = {
      {"version", "1.0"},
      {"added_tokens", Json::array({special(0, "<s>"), special(1, "</s>")})},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}}}};
  return tokenizer.dump();
}

class BadInput : public testing::Test {
 protected:
  void SetUp() override {
    write("tokenizer.json", tiny_tokenizer());
    write(
        "tokenizer_config.json",
        R"({"bos_token":"<s>","eos_token":"</s>","chat_template":)"
        R"("{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"})");
  }

  std::filesystem::path file(const std::string& name) const { return model_.folder() / name; }
  std::string folder() const { return model_.folder().string(); }
  std::string read(const std::string& name) const { return read_file(file(name)).value(); }
  void write(const std::string& name, const std::string& content) const {
    write_file(file(name), content).value();
  }
  void change_json(const std::string& name, const Json& changes) const {
    Json object = Json::parse(read(name));
    object.merge_patch(changes);
    write(name, object.dump());
  }
  // Rewrites the header of the weights.
  void change_header(const std::function<void(Json&)>& change) const {
    const std::string bytes = read("model.safetensors");
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    Json header = Json::parse(bytes.substr(8, length));
    change(header);
    const std::string text = header.dump();
    length = text.size();
    std::string changed(8, '\0');
    std::memcpy(changed.data(), &length, 8);
    write("model.safetensors", changed + text + bytes.substr(8 + bytes_of_header(bytes)));
  }

  // The one line it says, with this exit code and nothing on standard output.
  void expect_error(const Words& arguments, int code, const std::string& says) const {
    expect_error_of(Process::start(arguments, KVASIR_PROGRAM).finish(), code, says);
  }
  void expect_error_of(const Outcome& outcome, int code, const std::string& says) const {
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_TRUE(outcome.err.starts_with("kvasir: error: ")) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_NE(outcome.err.find(says), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  Words ask() const { return {"run", "-m", folder(), "-a", "Who?", "-n", "4"}; }

  const engine::TinyModel model_;

 private:
  static uint64_t bytes_of_header(const std::string& bytes) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    return length;
  }
};

TEST_F(BadInput, TheFolderIsGoodToBeginWith) {
  const Outcome outcome = Process::start(ask(), KVASIR_PROGRAM).finish();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
}

TEST_F(BadInput, TruncatedWeights) {
  const std::string bytes = read("model.safetensors");
  write("model.safetensors", bytes.substr(0, bytes.size() - 100));
  expect_error(ask(), 4, "is the file truncated?");
  write("model.safetensors", bytes.substr(0, 200));
  expect_error(ask(), 4, "model.safetensors: expected a header of at most 192 bytes");
  write("model.safetensors", "");
  expect_error(ask(), 4, "model.safetensors: expected at least 8 bytes, found 0");
}

TEST_F(BadInput, WeightsThatLie) {
  const std::string bytes = read("model.safetensors");
  std::string lie = bytes;
  lie[6] = 1;
  write("model.safetensors", lie);
  expect_error(ask(), 4, "expected a header of at most");
  const auto with = [&](const std::function<void(Json&)>& change) {
    write("model.safetensors", bytes);
    change_header(change);
  };
  with([](Json& h) { h["model.norm.weight"]["data_offsets"] = {1 << 30, (1 << 30) + 256}; });
  expect_error(ask(), 4, "tensor model.norm.weight: expected data offsets within 0 and ");
  with([](Json& h) {
    h["model.norm.weight"]["data_offsets"] =
        h["model.layers.0.input_layernorm.weight"]["data_offsets"];
  });
  expect_error(ask(), 4, "tensors overlap");
  with([](Json& h) { h["model.norm.weight"]["dtype"] = "I32"; });
  expect_error(ask(), 4, "model.norm.weight: expected [64] in F32, BF16 or F16, found [64] I32");
  with([](Json& h) { h["model.norm.weight"]["dtype"] = "BF16"; });
  expect_error(ask(), 4, "tensor model.norm.weight: expected 128 bytes for [64] BF16, found 256");
  with([](Json& h) { h["model.layers.1.self_attn.k_proj.weight"]["shape"] = {64, 32}; });
  expect_error(ask(), 4, "model.layers.1.self_attn.k_proj.weight: expected [32, 64]");
  with([](Json& h) { h["model.norm.weight"]["shape"] = "64"; });
  expect_error(ask(), 4, "tensor model.norm.weight: expected shape as a list of sizes");
}

TEST_F(BadInput, MissingWeights) {
  change_header([](Json& h) {
    h["other"] = h["model.norm.weight"];
    h.erase("model.norm.weight");
  });
  expect_error(ask(), 3, "expected a tensor model.norm.weight [64], found none of that name");
  std::filesystem::rename(file("model.safetensors"), file("one.safetensors"));
  expect_error(ask(), 3, "expected model.safetensors or model.safetensors.index.json");
  write("model.safetensors.index.json", R"({"weight_map":{"a":"two.safetensors"}})");
  expect_error(ask(), 3, "two.safetensors: cannot open: No such file or directory");
  write("model.safetensors.index.json", R"({"weight_map":{"a":"one.safetensors"}})");
  expect_error(ask(), 4, "the index places tensor a in this file, but it is not there");
}

TEST_F(BadInput, ConfigsThatAreWrong) {
  const std::string config = read("config.json");
  change_json("config.json", {{"architectures", {"MambaForCausalLM"}}});
  expect_error(ask(), 5, "MambaForCausalLM");
  write("config.json", config.substr(0, 40));
  expect_error(ask(), 4, "config.json: expected a JSON object, found none: parse error");
  write("config.json", config);
  change_json("config.json", {{"num_attention_heads", "four"}});
  expect_error(ask(), 4, "config.json: num_attention_heads: expected a whole number");
  write("config.json", config);
  change_json("config.json", {{"num_key_value_heads", 4}});
  expect_error(ask(), 4, "k_proj.weight: expected [64, 64]");
  write("config.json", config);
  write("generation_config.json", R"({"temperature":"hot"})");
  expect_error(ask(), 4, "generation_config.json: temperature: expected a number");
  std::filesystem::remove(file("config.json"));
  expect_error(ask(), 3, "config.json: cannot open");
  expect_error({"info", "-m", folder() + "/none"}, 3, "expected a model folder, found none");
}

TEST_F(BadInput, TokenizersAndTemplatesThatAreWrong) {
  const std::string tokenizer = read("tokenizer.json"), config = read("tokenizer_config.json");
  write("tokenizer.json", "{\"model\":");
  expect_error(ask(), 4, "tokenizer.json: ");
  expect_error({"tokenize", "-m", folder(), file("config.json")}, 4, "tokenizer.json: ");
  write("tokenizer.json", "[]");
  expect_error(ask(), 4, "tokenizer.json: ");
  std::filesystem::remove(file("tokenizer.json"));
  expect_error(ask(), 3, "tokenizer.json: cannot open");
  write("tokenizer.json", tokenizer);
  write("tokenizer_config.json", "{");
  expect_error(ask(), 4, "tokenizer_config.json: ");
  write("tokenizer_config.json", R"({"chat_template":"{% for m in messages %}"})");
  expect_error(ask(), 4, "tokenizer_config.json");
  write("tokenizer_config.json", R"({"chat_template":"{{ raise_exception('no such role') }}"})");
  expect_error(ask(), 2, "no such role");
  std::filesystem::remove(file("tokenizer_config.json"));
  expect_error(ask(), 5, "--prompt TEXT continues document and text as they are");
}

TEST_F(BadInput, IdsOutOfRange) {
  std::filesystem::remove(file("tokenizer.json"));
  const std::string ids = temporary_file("ids.txt", "1 2 96 3");
  expect_error({"score", "-m", folder(), "--ids", ids}, 4,
               ids + ": id 3 of 4: expected a token id below 96, found 96");
  const std::string good = temporary_file("good.txt", "1 2 95 3");
  const Outcome outcome =
      Process::start({"score", "-m", folder(), "--ids", good}, KVASIR_PROGRAM).finish();
  EXPECT_EQ(outcome.code, 0) << "needs no tokenizer: " << outcome.err;
}

TEST_F(BadInput, DocumentsThatAreWrong) {
  const auto read_document = [&](const std::string& content) {
    Words arguments = ask();
    arguments.insert(arguments.end(), {"-d", temporary_file("document", content)});
    return arguments;
  };
  expect_error(read_document(""), 4, "document: expected text, found an empty document");
  expect_error(read_document("a\xC3("), 4, "expected UTF-8 text, found an invalid byte 0xc3");
  expect_error(read_document(std::string(5000, 'a')), 6,
               "context: expected at most 1,024 tokens of prompt and answer, found ");
  expect_error(read_document("%PDF-1.4 nothing else"), 4, "pdftotext");
  Words none = ask();
  none.insert(none.end(), {"-d", "/no/such/document"});
  expect_error(none, 3, "/no/such/document: cannot open: No such file or directory");
}

TEST_F(BadInput, WhatDoesNotFitThePlan) {
  Words big = ask();
  big.insert(big.end(), {"--context", "4294967296"});
  expect_error(big, 6, "the plan needs ");
  expect_error({"info", "-m", folder(), "--context", "4294967296"}, 6, "the plan needs ");
  Words small = ask();
  small.insert(small.end(), {"--context", "12"});
  expect_error(small, 6, "expected at most 12 tokens of prompt and answer, found ");
}

TEST_F(BadInput, OutputsThatCannotBeWritten) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  expect_error_of(Process::start(ask(), KVASIR_PROGRAM, full).finish(), 7,
                  "stdout: writing failed: No space left on device");
  ::close(full);
  const std::string ids = temporary_file("ids.txt", "1 2 3");
  expect_error({"score", "-m", folder(), "--ids", ids, "--dump-logits", "/no/such/x.safetensors"},
               7, "/no/such/x.safetensors: cannot write: No such file or directory");
}

TEST_F(BadInput, BenchGoesOnInItsOwnProgram) {
  const bool is_there =
      std::filesystem::exists(std::filesystem::path(KVASIR_PROGRAM).parent_path() / "kvasir-bench");
  const Words arguments{"bench", "tokenizer", "-m", folder(), "-d", "/no/such"};
  if (is_there)
    expect_error(arguments, 3, "/no/such: cannot open: No such file or directory");
  else
    expect_error(arguments, 5, "expected kvasir-bench beside kvasir, found none");
}

TEST_F(BadInput, AnInterruptLeavesNoPartialFile) {
  std::string many;
  for (int i = 0; i < 2000000; ++i) many += "5 ";
  const std::string ids = temporary_file("many.txt", many);
  const std::string out = folder() + "/logits.safetensors";
  Process process =
      Process::start({"score", "-m", folder(), "--ids", ids, "--dump-logits", out}, KVASIR_PROGRAM);
  // At work as soon as the temporary file is there.
  const auto files_of_logits = [&] {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(model_.folder()))
      count += entry.path().filename().string().starts_with("logits");
    return count;
  };
  while (files_of_logits() == 0) ::sched_yield();
  ::kill(process.pid, SIGINT);
  const Outcome outcome = process.finish();
  EXPECT_EQ(outcome.code, 130);
  EXPECT_EQ(outcome.err, "kvasir: interrupted\n");
  EXPECT_EQ(files_of_logits(), 0);
}

TEST_F(BadInput, AnInterruptStopsAnAnswer) {
  // One after the other, so that the last is far away when the first is seen.
  Words arguments{"run",  "-m",       folder(),          "-n", "900", "--ignore-end",
                  "--as", "requests", "--max-sequences", "1"};
  for (int i = 0; i < 300; ++i) arguments.insert(arguments.end(), {"-a", "Who?"});
  Process process = Process::start(arguments, KVASIR_PROGRAM);
  ASSERT_TRUE(process.wait_for_err("> Who?"));
  ::kill(process.pid, SIGINT);
  const Outcome outcome = process.finish();
  EXPECT_EQ(outcome.code, 130);
  EXPECT_TRUE(outcome.err.ends_with("kvasir: interrupted\n")) << outcome.err;
}

}  // namespace
}  // namespace kvasir::cli
