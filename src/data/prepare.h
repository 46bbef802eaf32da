#pragma once
// From a recipe and a folder of texts to what batches are made of: the tokenizer and the corpus.

#include <filesystem>
#include <functional>
#include <vector>

#include "base/result.h"
#include "data/corpus.h"
#include "data/recipe.h"

namespace kvasir::data {

enum class PrepareStage : uint8_t { kWords, kMerges, kShards };

struct PrepareOptions {
  std::filesystem::path corpus;  // folder of the texts; empty: the recipe's
  std::filesystem::path output;  // folder of what is made, made where it is not there
  // Bytes of text done and to do (kMerges: tokens), by the calling thread. Stages with nothing to
  // do are left out.
  std::function<void(PrepareStage, int64_t, int64_t)> progress;
};

struct Prepared {
  std::filesystem::path tokenizer;  // folder with tokenizer.json and tokenizer_config.json
  Corpus corpus;
  std::vector<std::filesystem::path> training_texts, held_out_texts;  // for tasks in books
};

// Trains the recipe's tokenizer on the titles that are not held out and writes
// tokenizer_config.json and, last, tokenizer.json into `options.output`. Errors: kInvalidArgument
// (no corpus named, held-out titles that the manifest lacks, a recipe that takes a tokenizer from
// elsewhere), those of check_corpus() and of reading and writing.
Result<void> train_tokenizer(const Recipe& recipe, const Manifest& manifest,
                             const PrepareOptions& options, ThreadPool& pool);

// Everything that a run of the recipe reads. What lies in `options.output` from an earlier call is
// taken where it was made of the same. Errors: as above, and those of Corpus::open().
Result<Prepared> prepare(const Recipe& recipe, const PrepareOptions& options, ThreadPool& pool);

}  // namespace kvasir::data
