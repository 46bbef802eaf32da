// Ids and texts against the package `tokenizers`, for every kind of tokenizer file (see
// tokenizer_oracle.py), on 1.1 MB of mixed Unicode, code, emoji, prose and invalid bytes.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/file.h"
#include "base/thread_pool.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "text/unicode_scripts.h"
#include "text/unicode_sets.h"

namespace kvasir::text {
namespace {

// The oracle's folder, written once for each version of the script; empty where the environment is
// not installed, "failed" where the script fails.
const std::filesystem::path& oracle_folder() {
  static const std::filesystem::path folder = [] {
    const std::filesystem::path source = KVASIR_SOURCE_DIR;
    const auto python = source / ".venv-oracle/bin/python";
    const auto script = source / "tests/text/tokenizer_oracle.py";
    if (!std::filesystem::exists(python)) return std::filesystem::path();
    const auto version =
        std::max(std::filesystem::last_write_time(script),
                 std::filesystem::last_write_time(source / "tests/text/tokenizer_oracle_models.py"))
            .time_since_epoch()
            .count();
    const auto out = std::filesystem::temp_directory_path() / "kvasir-tokenizer-oracle" /
                     std::to_string(version);
    if (std::filesystem::exists(out / "texts")) return out;
    const auto building = out.string() + "." + std::to_string(::getpid());
    std::filesystem::create_directories(building);
    const std::string command = python.string() + " " + script.string() + " " + building;
    if (std::system(command.c_str()) != 0) return std::filesystem::path("failed");
    std::error_code taken;  // another process may have been faster
    std::filesystem::rename(building, out, taken);
    if (taken) std::filesystem::remove_all(building);
    return out;
  }();
  return folder;
}

// Reads the script's files: int32 sizes followed by what they count.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : data_(read_file(path).value()) {}

  int32_t integer() {
    int32_t value = 0;
    std::memcpy(&value, data_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string bytes() {
    const auto size = static_cast<size_t>(integer());
    at_ += size;
    return data_.substr(at_ - size, size);
  }
  std::vector<TokenId> ids() {
    std::vector<TokenId> ids(static_cast<size_t>(integer()));
    if (!ids.empty()) std::memcpy(ids.data(), data_.data() + at_, ids.size() * sizeof(TokenId));
    at_ += ids.size() * sizeof(TokenId);
    return ids;
  }
  bool at_end() const { return at_ == data_.size(); }

 private:
  std::string data_;
  size_t at_ = 0;
};

// A long mismatch would print megabytes: where two lists part, and what stands around.
template <class List>
std::string difference(const List& ours, const List& theirs) {
  size_t at = 0;
  while (at < ours.size() && at < theirs.size() && ours[at] == theirs[at]) ++at;
  const size_t begin = at < 8 ? 0 : at - 8;
  const auto around = [&](const List& list) {
    return List(list.begin() + static_cast<std::ptrdiff_t>(std::min(begin, list.size())),
                list.begin() + static_cast<std::ptrdiff_t>(std::min(at + 8, list.size())));
  };
  return "at " + std::to_string(at) + " of " + std::to_string(theirs.size()) + ": ours " +
         testing::PrintToString(around(ours)) + ", expected " +
         testing::PrintToString(around(theirs));
}

class OracleTokenizer : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (oracle_folder().empty()) GTEST_SKIP() << "the oracle environment is not installed";
    ASSERT_NE(oracle_folder(), "failed") << "tokenizer_oracle.py fails";
    folder_ = oracle_folder() / GetParam();
    ASSERT_TRUE(std::filesystem::exists(folder_)) << "the script has no such case";
  }
  Tokenizer load() const { return Tokenizer::load(folder_ / "tokenizer.json").value(); }

  std::filesystem::path folder_;
};

TEST_P(OracleTokenizer, Encode) {
  const Tokenizer tokenizer = load();
  ThreadPool pool(2);
  Reader texts(oracle_folder() / "texts"), expected(folder_ / "ids");
  const bool only_small = std::string_view(GetParam()).starts_with("split_");
  int failures = 0;
  for (int32_t count = texts.integer(), i = 0; i < count && failures < 5; ++i) {
    const std::string text = texts.bytes();
    // As the script counts: characters of the repaired text.
    const std::string repaired = to_valid_utf8(text);
    const auto characters =
        std::ranges::count_if(repaired, [](char byte) { return !is_utf8_continuation(byte); });
    if (only_small && characters >= 1000) continue;
    const auto check = [&](const std::vector<TokenId>& ours, const std::vector<TokenId>& theirs) {
      if (ours == theirs) return;
      ++failures;
      ADD_FAILURE() << "document " << i << " " << testing::PrintToString(text.substr(0, 200)) << " "
                    << difference(ours, theirs);
    };
    const std::vector<TokenId> ids = expected.ids();
    check(tokenizer.encode(text), ids);
    check(tokenizer.encode(text, pool), ids);
    if (characters < 1000)
      check(tokenizer.encode(text, {.add_special_tokens = false}), expected.ids());
  }
  EXPECT_TRUE(failures > 0 || expected.at_end());
}

std::string utf8_of(char32_t c) {
  std::string text;
  append_utf8(c, text);
  return text;
}

// What a decoder of `ids` gives in all, each part checked to be UTF-8.
std::string decode_by_token(TokenDecoder& decoder, std::span<const TokenId> ids) {
  std::string text;
  const auto append = [&](const std::string& part) {
    EXPECT_TRUE(is_valid_utf8(part)) << testing::PrintToString(part);
    text += part;
  };
  for (const TokenId id : ids) append(decoder.push(id));
  append(decoder.finish());
  return text;
}

TEST_P(OracleTokenizer, Decode) {
  const Tokenizer tokenizer = load();
  Reader probes(folder_ / "probes"), expected(folder_ / "decoded");
  int failures = 0;
  for (int32_t count = probes.integer(), i = 0; i < count && failures < 5; ++i) {
    const std::vector<TokenId> ids = probes.ids();
    for (const bool skip_special : {true, false}) {
      const std::string theirs = expected.bytes();
      const std::string ours = tokenizer.decode(ids, skip_special);
      TokenDecoder decoder(tokenizer, skip_special);
      const std::string by_token = decode_by_token(decoder, ids);
      failures += ours != theirs || by_token != theirs ? 1 : 0;
      EXPECT_TRUE(ours == theirs) << "probe " << i << " "
                                  << testing::PrintToString(std::vector(
                                         ids.begin(),
                                         ids.begin() + std::min<long>(30, std::ssize(ids))))
                                  << difference(ours, theirs);
      EXPECT_TRUE(by_token == theirs)
          << "probe " << i << " by token " << difference(by_token, theirs);
      // Every prefix: a decoder that stops there has given what the prefix decodes to.
      if (ids.size() > 60) continue;
      for (size_t size = 0; size < ids.size() && failures < 5; ++size) {
        const auto prefix = std::span(ids).first(size);
        const std::string whole = tokenizer.decode(prefix, skip_special);
        failures += decode_by_token(decoder, prefix) != whole ? 1 : 0;
        EXPECT_EQ(decode_by_token(decoder, prefix), whole) << "probe " << i << " up to " << size;
      }
    }
  }
  EXPECT_TRUE(failures > 0 || expected.at_end());
}

// The sets and scripts that are tables here, for every code point.
TEST(OracleCharacters, PropertiesAreThoseOfThePackage) {
  if (oracle_folder().empty()) GTEST_SKIP() << "the oracle environment is not installed";
  ASSERT_NE(oracle_folder(), "failed") << "tokenizer_oracle.py fails";
  const std::string expected = read_file(oracle_folder() / "properties").value();
  ASSERT_EQ(expected.size(), size_t{0x110000});
  int failures = 0;
  for (char32_t c = 0; c < 0x110000 && failures < 20; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const bool has_next = c + 1 < 0x110000 && c + 1 != 0xD800;
    const int script = sentencepiece_script(c);
    const int next = has_next ? sentencepiece_script(c + 1) : script;
    // A mark that its normal form takes apart is never asked about as such; three controls are
    // white space to the cleaner of texts.
    const bool is_space = c == '\t' || c == '\n' || c == '\r';
    const bool is_apart = normalize_unicode(utf8_of(c), NormalizationForm::kNfd) == utf8_of(c);
    const int ours = (is_punctuation(c) ? 1 : 0) | (is_mark(c) ? 2 : 0) |
                     (is_apart && is_nonspacing_mark(c) ? 4 : 0) |
                     (is_control(c) && !is_space ? 8 : 0) |
                     (script != kAnyScript && next != kAnyScript && script != next ? 16 : 0);
    if (ours == static_cast<uint8_t>(expected[c])) continue;
    ++failures;
    ADD_FAILURE() << "U+" << std::hex << static_cast<uint32_t>(c) << ": ours " << ours
                  << ", expected " << static_cast<int>(static_cast<uint8_t>(expected[c]));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, OracleTokenizer,
    testing::Values("gpt2", "gpt2_prefix", "llama3", "qwen2", "camel", "several_splits", "digits",
                    "digits_runs", "normalizer_bytes", "llama2", "metaspace_first",
                    "metaspace_always", "metaspace_never", "gemma", "unknown", "unknown_fused",
                    "dropped", "lower", "nfkd", "punctuation", "split_removed",
                    "split_removed_invert", "split_isolated", "split_isolated_invert",
                    "split_merged_with_previous", "split_merged_with_previous_invert",
                    "split_merged_with_next", "split_merged_with_next_invert", "split_contiguous",
                    "split_contiguous_invert", "shipped", "unigram_t5", "unigram_xlmr",
                    "unigram_albert", "unigram_first", "unigram_first_split", "unigram_plain",
                    "unigram_some_bytes", "unigram_ties", "unigram_ties_split", "unigram_unknowns",
                    "unigram_scripts", "unigram_byte_level", "unigram_delimiter", "unigram_fixed",
                    "wordpiece_uncased", "wordpiece_cased", "wordpiece_accents",
                    "wordpiece_keeps_accents", "wordpiece_short", "wordpiece_one_word",
                    "wordpiece_marks", "wordlevel", "wordlevel_origin", "wordlevel_ctc",
                    "wordlevel_ctc_plain"),
    [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace kvasir::text
