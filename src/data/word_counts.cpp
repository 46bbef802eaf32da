#include "data/word_counts.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"
#include "base/thread_pool.h"
#include "text/unicode.h"

namespace kvasir::data {
namespace {

// About so much text is handed to a thread at a time.
constexpr size_t kPieceBytes = size_t{1} << 20;
// Files in memory at a time, at most.
constexpr size_t kGroupBytes = size_t{256} << 20;

text::PreTokenizer make_cutter(bool single_digits) {
  const nlohmann::json json = {{"type", "Sequence"},
                               {"pretokenizers",
                                {{{"type", "Split"},
                                  {"pattern", {{"Regex", split_expression(single_digits)}}},
                                  {"behavior", "Isolated"},
                                  {"invert", false}},
                                 {{"type", "ByteLevel"},
                                  {"add_prefix_space", false},
                                  {"trim_offsets", true},
                                  {"use_regex", false}}}}};
  text::PreTokenizer cutter = text::PreTokenizer::parse(text::JsonNode(json, "pre_tokenizer"));
  cutter.take_byte_level();
  return cutter;
}

bool is_ascii_letter(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
}

// Cuts a text into pieces whose words are the words of the whole. No word of split_expression()
// reaches from a newline to a letter, and none looks ahead beyond it.
void cut(std::string_view text, std::vector<std::string_view>& pieces) {
  size_t begin = 0;
  for (size_t at = kPieceBytes; at < text.size(); ++at) {
    if (text[at - 1] != '\n' || !is_ascii_letter(text[at])) continue;
    pieces.push_back(text.substr(begin, at - begin));
    begin = at;
    at += kPieceBytes;
  }
  pieces.push_back(text.substr(begin));
}

}  // namespace

std::string split_expression(bool single_digits) {
  return fmt::format(R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{}|)"
                     R"( ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                     single_digits ? "" : "{1,3}");
}

void WordCounts::add(std::string_view word, int64_t count) {
  const text::TokenId id = words_.find(word);
  if (id >= 0) {
    counts_[static_cast<size_t>(id)] += count;
    return;
  }
  words_.insert(word, static_cast<text::TokenId>(counts_.size()));
  counts_.push_back(count);
}

void WordCounts::add(std::string_view text, const text::PreTokenizer& cutter) {
  auto sink = [this](text::Piece piece) { add(piece.text, int64_t{1}); };
  cutter.split(text::Piece{text, 0}, sink);
}

void WordCounts::add(const WordCounts& other) {
  for (size_t i = 0; i < other.size(); ++i) add(other.word(i), other.count(i));
}

Result<WordCounts> count_words(std::span<const std::filesystem::path> files, bool single_digits,
                               ThreadPool& pool,
                               const std::function<void(int64_t, int64_t)>& done) {
  const text::PreTokenizer cutter = make_cutter(single_digits);
  std::vector<WordCounts> of_worker(static_cast<size_t>(pool.size()));
  std::error_code ignored;
  int64_t all_bytes = 0, done_bytes = 0;
  for (const auto& file : files) {
    const auto size = std::filesystem::file_size(file, ignored);
    all_bytes += ignored ? 0 : static_cast<int64_t>(size);
  }
  for (size_t next = 0; next < files.size();) {
    std::vector<MappedFile> group;
    std::vector<std::string_view> pieces;
    size_t group_bytes = 0;
    for (; next < files.size() && group_bytes < kGroupBytes; ++next) {
      auto file = MappedFile::open(files[next]);
      if (!file) return file.error();
      group.push_back(std::move(file).value());
      const auto bytes = group.back().bytes();
      const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      if (!text::is_valid_utf8(text))
        return Error(ErrorCode::kMalformed, "expected UTF-8 text, found other bytes",
                     files[next].string());
      group_bytes += text.size();
      cut(text, pieces);
    }
    std::mutex mutex;
    std::optional<Error> failure;  // guarded by mutex
    pool.parallel(static_cast<int64_t>(pieces.size()), [&](int64_t piece, int worker) {
      try {
        of_worker[static_cast<size_t>(worker)].add(pieces[static_cast<size_t>(piece)], cutter);
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        failure = error;
      }
    });
    if (failure) return *failure;
    done_bytes += static_cast<int64_t>(group_bytes);
    if (done) done(done_bytes, all_bytes);
  }
  for (size_t worker = 1; worker < of_worker.size(); ++worker) of_worker[0].add(of_worker[worker]);
  return std::move(of_worker[0]);
}

}  // namespace kvasir::data
