// What comes before training: the tokenizer, the shards of tokens, the manifest of a corpus.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <optional>

#include "base/file.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "data/prepare.h"
#include "data/task_samples.h"
#include "report/table.h"
#include "text/tokenizer.h"

namespace kvasir::cli {
namespace {

// One bar after another, as the stages come.
class StageProgress {
 public:
  explicit StageProgress(Environment& environment) : environment_(environment) {}

  void update(data::PrepareStage stage, int64_t done, int64_t all) {
    if (!progress_ || stage != stage_) {
      static constexpr const char* kLabels[] = {"counting words", "merging pairs", "tokenising"};
      progress_.reset();
      progress_ = std::make_unique<Progress>(
          environment_.progress_options(), kLabels[static_cast<int>(stage)],
          stage == data::PrepareStage::kMerges ? Progress::Unit::kTokens : Progress::Unit::kBytes);
      stage_ = stage;
      progress_->update(0, all);
    }
    progress_->update(done, all);
  }

 private:
  Environment& environment_;
  data::PrepareStage stage_ = data::PrepareStage::kWords;
  std::unique_ptr<Progress> progress_;
};

int threads_of(const Options& options) {
  return options.engine.threads > 0 ? options.engine.threads : usable_cpus();
}

data::Recipe recipe_of(const Options& options) {
  return data::load_recipe(options.train.recipe, data::task_names()).value();
}

// What `options` and the bars give to data::.
data::PrepareOptions prepare_options(const Options& options, StageProgress& progress) {
  return {.corpus = options.train.corpus,
          .output = options.train.output,
          .progress = [&progress](data::PrepareStage stage, int64_t done, int64_t all) {
            progress.update(stage, done, all);
          }};
}

int64_t tokens_of(const data::Corpus& corpus, std::span<const std::string> titles) {
  int64_t tokens = 0;
  for (const std::string& title : titles) tokens += corpus.find(title)->size();
  return tokens;
}

Json mixture_json(const data::Mixture& mixture) {
  Json json = Json::object();
  for (const auto& [source, weight] : mixture) json[source] = weight;
  return json;
}

Json data_json(const data::Recipe& recipe, const data::Prepared& prepared, int64_t vocab_size) {
  const data::Corpus& corpus = prepared.corpus;
  const int64_t held_out = tokens_of(corpus, recipe.data.held_out);
  Json phases = Json::array();
  for (const data::PhaseRecipe& phase : recipe.phases)
    phases.push_back({{"sequence", phase.sequence},
                      {"steps", phase.steps()},
                      {"batch_tokens", phase.batch_tokens},
                      {"mixture", mixture_json(phase.mixture)}});
  return {{"tokenizer", prepared.tokenizer.string()},
          {"vocab_size", vocab_size},
          {"titles", corpus.size()},
          {"held_out", recipe.data.held_out},
          {"training_tokens", corpus.total_tokens() - held_out},
          {"held_out_tokens", held_out},
          {"shards", corpus.shards()},
          {"shards_built", corpus.shards_built()},
          {"source", corpus.source()},
          {"steps", recipe.steps()},
          {"phases", std::move(phases)}};
}

report::Table phase_table(const data::Recipe& recipe, int64_t training_tokens) {
  report::Table table{
      .columns = {
          {"sequence"}, {"steps"}, {"tokens a step"}, {"rounds of books"}, {"shares", false}}};
  for (const data::PhaseRecipe& phase : recipe.phases) {
    double sum = 0, rounds = 0;
    for (const auto& [source, weight] : phase.mixture) sum += weight;
    std::vector<std::string> shares;
    for (const auto& [source, weight] : phase.mixture) {
      shares.push_back(fmt::format("{} {:.0f}%", source, 100 * weight / sum));
      if (source != data::kBooks) continue;
      rounds = weight / sum * static_cast<double>(phase.steps() * phase.batch_tokens) /
               static_cast<double>(std::max<int64_t>(1, training_tokens));
    }
    table.rows.push_back({report::count(phase.sequence), report::count(phase.steps()),
                          report::count(phase.batch_tokens), report::number(rounds, 2),
                          fmt::format("{}", fmt::join(shares, ", "))});
  }
  return table;
}

std::string data_text(const data::Recipe& recipe, const data::Prepared& prepared,
                      int64_t vocab_size, int width) {
  const data::Corpus& corpus = prepared.corpus;
  const int64_t held_out = tokens_of(corpus, recipe.data.held_out);
  const int64_t training = corpus.total_tokens() - held_out;
  const auto facts = report::terminal_pairs(
      {{"tokenizer", fmt::format("{} ({} tokens)", prepared.tokenizer.string(), vocab_size)},
       {"titles", fmt::format("{}, {} held out", corpus.size(), recipe.data.held_out.size())},
       {"tokens", fmt::format("{} to train on, {} held out", with_thousands(training),
                              with_thousands(held_out))},
       {"shards", fmt::format("{}, {} built now", corpus.shards(), corpus.shards_built())}});
  return "data\n" + facts + "phases\n" +
         report::terminal_table(phase_table(recipe, training), static_cast<size_t>(width));
}

}  // namespace

int train_tokenizer_command(const Options& options, Environment& environment) {
  const data::Recipe recipe = recipe_of(options);
  if (recipe.tokenizer.is_tiny)
    throw Error(ErrorCode::kInvalidArgument,
                "expected a recipe that trains its tokenizer, found tokenizer.kind = \"tiny-v1\"",
                recipe.name);
  const data::Manifest manifest = data::load_manifest(recipe.data.manifest).value();
  ThreadPool pool(threads_of(options));
  {
    StageProgress progress(environment);
    data::train_tokenizer(recipe, manifest, prepare_options(options, progress), pool).value();
  }
  const auto path = options.train.output / "tokenizer.json";
  const int64_t vocab_size = text::Tokenizer::load(path).value().vocab_size();
  if (vocab_size < recipe.tokenizer.vocab_size)
    environment.note(fmt::format("the texts have pairs for {} tokens only; the recipe asks for {}",
                                 vocab_size, recipe.tokenizer.vocab_size));
  environment.out->write(options.json
                             ? json_line({{"tokenizer", path.string()}, {"vocab_size", vocab_size}})
                             : fmt::format("{}: {} tokens\n", path.string(), vocab_size));
  return kExitOk;
}

int train_data_command(const Options& options, Environment& environment) {
  const data::Recipe recipe = recipe_of(options);
  ThreadPool pool(threads_of(options));
  std::optional<data::Prepared> prepared;
  {
    StageProgress progress(environment);
    prepared = data::prepare(recipe, prepare_options(options, progress), pool).value();
  }
  const int64_t vocab_size =
      text::Tokenizer::load(prepared->tokenizer / "tokenizer.json").value().vocab_size();
  environment.out->write(options.json
                             ? json_line(data_json(recipe, *prepared, vocab_size))
                             : data_text(recipe, *prepared, vocab_size, environment.width));
  return kExitOk;
}

int train_manifest_command(const Options& options, Environment& environment) {
  ThreadPool pool(threads_of(options));
  data::Manifest manifest;
  {
    Progress progress(environment.progress_options(), "hashing", Progress::Unit::kBytes);
    manifest = data::make_manifest(options.train.corpus, pool, [&](int64_t done, int64_t all) {
                 progress.update(done, all);
               }).value();
  }
  write_file(options.train.output, data::manifest_json(manifest)).value();
  environment.out->write(
      options.json
          ? json_line(
                {{"manifest", options.train.output.string()}, {"titles", manifest.titles.size()}})
          : fmt::format("{}: {} titles\n", options.train.output.string(), manifest.titles.size()));
  return kExitOk;
}

}  // namespace kvasir::cli
