#include "data/corpus.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/thread_pool.h"
#include "data/sha256.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace kvasir::data {
namespace {

// The titles of one shard and what names it.
struct ShardPlan {
  std::vector<const Title*> titles;
  int64_t bytes = 0;
  std::string source;
  std::filesystem::path path;
};

std::string source_of(std::string_view tokenizer_hash, std::span<const Title* const> titles) {
  Sha256 hash;
  hash.add("shard 1\n");
  hash.add(tokenizer_hash);
  for (const Title* title : titles) hash.add(fmt::format("\n{} {}", title->sha256, title->name));
  return hex(hash.digest());
}

std::vector<ShardPlan> plan_shards(const CorpusOptions& options, std::string_view tokenizer_hash) {
  std::vector<ShardPlan> plans;
  for (const Title& title : options.manifest.titles) {
    if (plans.empty() || plans.back().bytes >= static_cast<int64_t>(options.shard_bytes))
      plans.emplace_back();
    plans.back().titles.push_back(&title);
    plans.back().bytes += title.bytes;
  }
  for (ShardPlan& plan : plans) {
    plan.source = source_of(tokenizer_hash, plan.titles);
    plan.path = options.shards / (plan.source.substr(0, 16) + ".shard");
  }
  return plans;
}

// Tokenises the texts of a shard; `reached` is told the bytes of each.
Result<void> build_shard(const ShardPlan& plan, const std::filesystem::path& folder,
                         const text::Tokenizer& tokenizer, ThreadPool& pool,
                         const std::function<void(int64_t)>& reached) {
  std::vector<TextToWrite> texts;
  for (const Title* title : plan.titles) {
    const std::filesystem::path path = title_path(folder, title->name);
    auto content = read_file(path);
    if (!content) return content.error();
    if (!text::is_valid_utf8(content.value()))
      return Error(ErrorCode::kMalformed, "expected UTF-8 text, found other bytes", path.string());
    texts.push_back(
        {title->name, tokenizer.encode(content.value(), pool,
                                       {.add_special_tokens = false, .parse_special = false})});
    reached(title->bytes);
  }
  return write_shard(plan.path, plan.source, texts, tokenizer.vocab_size());
}

Result<Shard> open_shard(const ShardPlan& plan) {
  auto shard = Shard::open(plan.path);
  if (shard && shard.value().source() != plan.source)
    return Error(ErrorCode::kMalformed, "expected a shard of other texts", plan.path.string());
  return shard;
}

Result<void> build_missing(const CorpusOptions& options, std::span<const ShardPlan> plans,
                           const std::vector<bool>& missing, ThreadPool& pool,
                           const ByteProgress& done) {
  // Before minutes of work, not in the midst of it.
  if (auto same = check_corpus(options.manifest, options.folder, pool); !same) return same;
  const auto tokenizer = text::Tokenizer::load(options.tokenizer_json);
  if (!tokenizer) return tokenizer.error();
  std::error_code failed;
  std::filesystem::create_directories(options.shards, failed);
  if (failed)
    return Error(ErrorCode::kIo, "cannot make this folder: " + failed.message(),
                 options.shards.string());
  int64_t all = 0, reached = 0;
  for (size_t i = 0; i < plans.size(); ++i) all += missing[i] ? plans[i].bytes : 0;
  for (size_t i = 0; i < plans.size(); ++i) {
    if (!missing[i]) continue;
    auto built = build_shard(plans[i], options.folder, tokenizer.value(), pool, [&](int64_t bytes) {
      reached += bytes;
      if (done) done(reached, all);
    });
    if (!built) return built;
  }
  return {};
}

}  // namespace

Result<Corpus> Corpus::open(const CorpusOptions& options, ThreadPool& pool,
                            const ByteProgress& done) {
  const auto tokenizer_bytes = read_file(options.tokenizer_json);
  if (!tokenizer_bytes) return tokenizer_bytes.error();
  const std::string tokenizer_hash = sha256_hex(tokenizer_bytes.value());
  const std::vector<ShardPlan> plans = plan_shards(options, tokenizer_hash);

  // What is there is opened by all threads, for each checks its bytes.
  std::vector<Result<Shard>> opened;
  const auto open_all = [&] {
    opened.clear();
    for (size_t i = 0; i < plans.size(); ++i) opened.emplace_back(Error(ErrorCode::kInternal, ""));
    pool.parallel(static_cast<int64_t>(plans.size()), [&](int64_t index, int) {
      const auto i = static_cast<size_t>(index);
      opened[i] = open_shard(plans[i]);
    });
  };
  open_all();
  std::vector<bool> missing;
  for (const auto& shard : opened) missing.push_back(!shard.ok());
  Corpus corpus;
  corpus.shards_built_ = std::ranges::count(missing, true);
  if (corpus.shards_built_ > 0) {
    if (auto built = build_missing(options, plans, missing, pool, done); !built)
      return built.error();
    open_all();
  }
  for (auto& shard : opened) {
    if (!shard) return shard.error();
    corpus.shards_.push_back(std::move(shard).value());
  }
  for (const Shard& shard : corpus.shards_)
    for (const ShardText& text : shard.texts()) corpus.texts_.push_back(&text);
  std::vector<const Title*> titles;
  for (const Title& title : options.manifest.titles) titles.push_back(&title);
  corpus.source_ = source_of(tokenizer_hash, titles);
  return corpus;
}

int64_t Corpus::total_tokens() const {
  int64_t total = 0;
  for (const ShardText* text : texts_) total += text->tokens.size();
  return total;
}

const TokenView* Corpus::find(std::string_view name) const {
  const auto place = std::ranges::lower_bound(
      texts_, name, {}, [](const ShardText* text) -> std::string_view { return text->name; });
  return place != texts_.end() && (*place)->name == name ? &(*place)->tokens : nullptr;
}

}  // namespace kvasir::data
