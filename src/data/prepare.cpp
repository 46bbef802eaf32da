#include "data/prepare.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "data/bpe_trainer.h"
#include "data/sha256.h"
#include "data/tiny_tokenizer.h"
#include "data/word_counts.h"

namespace kvasir::data {
namespace {

Result<std::filesystem::path> corpus_folder(const Recipe& recipe, const PrepareOptions& options) {
  if (!options.corpus.empty()) return options.corpus;
  if (!recipe.data.corpus.empty()) return recipe.data.corpus;
  return Error(ErrorCode::kInvalidArgument,
               "expected the folder of the corpus: the recipe's data.corpus or --corpus DIR",
               recipe.name);
}

Result<void> make_folder(const std::filesystem::path& folder) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  if (!failed) return {};
  return Error(ErrorCode::kIo, "cannot make this folder: " + failed.message(), folder.string());
}

bool is_held_out(const Recipe& recipe, const std::string& title) {
  return std::binary_search(recipe.data.held_out.begin(), recipe.data.held_out.end(), title);
}

Result<void> check_held_out(const Recipe& recipe, const Manifest& manifest) {
  for (const std::string& title : recipe.data.held_out)
    if (manifest.find(title) == nullptr)
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("data.held_out: expected titles of the manifest, found '{}'", title),
                   recipe.name);
  return {};
}

// What a trained tokenizer is made of.
std::string tokenizer_source(const Recipe& recipe, const Manifest& manifest) {
  Sha256 hash;
  hash.add(fmt::format("tokenizer 1\n{} {} {}\n", recipe.tokenizer.vocab_size,
                       recipe.tokenizer.single_digits, recipe.longest_sequence()));
  for (const Title& title : manifest.titles)
    if (!is_held_out(recipe, title.name)) hash.add(title.sha256 + "\n");
  return hex(hash.digest());
}

// The folder of the recipe's tokenizer, trained where it is not there.
Result<std::filesystem::path> prepare_tokenizer(const Recipe& recipe, const Manifest& manifest,
                                                const PrepareOptions& options, ThreadPool& pool) {
  if (!recipe.tokenizer.from.empty()) return recipe.tokenizer.from;
  PrepareOptions into = options;
  into.output /= "tokenizer-" + tokenizer_source(recipe, manifest).substr(0, 16);
  if (std::filesystem::exists(into.output / "tokenizer.json")) return into.output;
  if (auto trained = train_tokenizer(recipe, manifest, into, pool); !trained)
    return trained.error();
  return into.output;
}

// The tiny family needs nothing but its vocabulary.
Result<Prepared> prepare_tiny(const Recipe& recipe, const PrepareOptions& options) {
  Prepared prepared;
  prepared.tokenizer = options.output / "tokenizer-tiny-v1";
  if (auto made = make_folder(prepared.tokenizer); !made) return made.error();
  auto written = write_file(prepared.tokenizer / "tokenizer_config.json",
                            tiny_tokenizer_config_json(recipe.longest_sequence()));
  if (!written) return written.error();
  written = write_file(prepared.tokenizer / "tokenizer.json", tiny_tokenizer_json());
  if (!written) return written.error();
  return prepared;
}

}  // namespace

Result<void> train_tokenizer(const Recipe& recipe, const Manifest& manifest,
                             const PrepareOptions& options, ThreadPool& pool) {
  if (!recipe.tokenizer.from.empty())
    return Error(ErrorCode::kInvalidArgument,
                 "expected a recipe that trains its tokenizer, found tokenizer.from", recipe.name);
  const auto folder = corpus_folder(recipe, options);
  if (!folder) return folder.error();
  if (auto known = check_held_out(recipe, manifest); !known) return known;
  if (auto same = check_corpus(manifest, folder.value(), pool); !same) return same;

  const auto report = [&](PrepareStage stage) {
    return [&options, stage](int64_t done, int64_t all) {
      if (options.progress) options.progress(stage, done, all);
    };
  };
  std::vector<std::filesystem::path> files;
  for (const Title& title : manifest.titles)
    if (!is_held_out(recipe, title.name)) files.push_back(title_path(folder.value(), title.name));
  const auto words =
      count_words(files, recipe.tokenizer.single_digits, pool, report(PrepareStage::kWords));
  if (!words) return words.error();
  const Bpe bpe = train_bpe(words.value(), chat_tokens(), recipe.tokenizer.vocab_size,
                            report(PrepareStage::kMerges));

  if (auto made = make_folder(options.output); !made) return made;
  auto written = write_file(options.output / "tokenizer_config.json",
                            tokenizer_config_json(recipe.longest_sequence()));
  if (!written) return written;
  return write_file(options.output / "tokenizer.json",
                    tokenizer_json(bpe, recipe.tokenizer.single_digits));
}

Result<Prepared> prepare(const Recipe& recipe, const PrepareOptions& options, ThreadPool& pool) {
  if (recipe.tokenizer.is_tiny) return prepare_tiny(recipe, options);
  auto manifest = load_manifest(recipe.data.manifest);
  if (!manifest) return manifest.error();
  const auto folder = corpus_folder(recipe, options);
  if (!folder) return folder.error();
  if (auto known = check_held_out(recipe, manifest.value()); !known) return known.error();
  Prepared prepared;
  for (const Title& title : manifest.value().titles)
    (is_held_out(recipe, title.name) ? prepared.held_out_texts : prepared.training_texts)
        .push_back(title_path(folder.value(), title.name));
  auto tokenizer = prepare_tokenizer(recipe, manifest.value(), options, pool);
  if (!tokenizer) return tokenizer.error();
  prepared.tokenizer = tokenizer.value();
  auto corpus = Corpus::open({.manifest = std::move(manifest).value(),
                              .folder = folder.value(),
                              .tokenizer_json = prepared.tokenizer / "tokenizer.json",
                              .shards = options.output / "shards"},
                             pool, [&](int64_t done, int64_t all) {
                               if (options.progress)
                                 options.progress(PrepareStage::kShards, done, all);
                             });
  if (!corpus) return corpus.error();
  prepared.corpus = std::move(corpus).value();
  return prepared;
}

}  // namespace kvasir::data
