#include "data/recipe.h"

#include <cmath>

#include "base/file.h"
#include "data/toml_reader.h"
#include "tasks/tiny.h"
#include "text/unicode.h"

namespace kvasir::data {
namespace {

constexpr int64_t kMany = INT64_MAX;
constexpr int64_t kLongestSequence = int64_t{1} << 24;
// What a mixture may name, "books" among them.
using Sources = std::vector<std::string>;
// A rate of exactly 0 would train nothing.
constexpr double kLeastRate = 1e-12;

std::filesystem::path path_of(const std::string& text, const std::filesystem::path& folder) {
  const std::filesystem::path path(text);
  return path.is_absolute() ? path : (folder / path).lexically_normal();
}

// A section that may be left out where all of it has defaults.
template <class Read>
void section(TomlReader& root, const char* name, Read&& read) {
  static const toml::table none;
  std::optional<TomlReader> table = root.table(name);
  if (!table) table.emplace(none, name, root.origin());
  read(*table);
  table->finish();
}

void read_model(TomlReader& table, const std::filesystem::path& folder, ModelRecipe& model) {
  if (table.has("from")) {
    model.from = path_of(table.text("from"), folder);
    return;  // every key of a shape is now unknown: the folder says it
  }
  const int64_t most = int64_t{1} << 20;
  model.hidden_size = table.integer("hidden_size", 1, most);
  model.intermediate_size = table.integer("intermediate_size", 1, most);
  model.num_hidden_layers = table.integer("num_hidden_layers", 1, 4096);
  model.num_attention_heads = table.integer("num_attention_heads", 1, 4096);
  model.num_key_value_heads =
      table.integer("num_key_value_heads", 1, 4096, model.num_attention_heads);
  if (model.num_attention_heads % model.num_key_value_heads != 0)
    table.fail("num_key_value_heads",
               fmt::format("expected a divisor of num_attention_heads = {}, found {}",
                           model.num_attention_heads, model.num_key_value_heads));
  model.head_dim = table.integer("head_dim", 2, 1024);
  if (model.head_dim % 2 != 0)
    table.fail("head_dim", fmt::format("expected an even number, found {}", model.head_dim));
  model.tie_word_embeddings = table.boolean("tie_word_embeddings", true);
  model.rope_theta = table.number("rope_theta", 1, 1e12);
  model.rms_norm_eps = table.number("rms_norm_eps", 1e-12, 1, 1e-5);
  model.init_std = table.number("init_std", 1e-6, 10, 0.02);
}

void read_tokenizer(TomlReader& table, const std::filesystem::path& folder,
                    TokenizerRecipe& tokenizer) {
  if (table.has("from")) {
    tokenizer.from = path_of(table.text("from"), folder);
    return;
  }
  static const std::string kinds[] = {"bpe", "tiny-v1"};
  tokenizer.is_tiny = table.choice("kind", kinds, 0) == 1;
  if (tokenizer.is_tiny) return;  // its vocabulary is what it is
  tokenizer.vocab_size = table.integer("vocab_size", 261, 1 << 20);
  tokenizer.single_digits = table.boolean("single_digits", true);
}

Mixture read_mixture(TomlReader table, const Sources& sources) {
  Mixture mixture;
  double sum = 0;
  table.finish(sources);
  table.numbers(0, 1e9, [&](const std::string& source, double weight) {
    if (weight > 0) mixture[source] = weight;
    sum += weight;
  });
  if (!(sum > 0)) table.fail("", "expected a share of more than 0 for at least one source");
  return mixture;
}

void read_texts(TomlReader& table, const std::filesystem::path& folder, DataRecipe& data) {
  if (table.has("corpus")) data.corpus = path_of(table.text("corpus"), folder);
  data.manifest = path_of(table.text("manifest"), folder);
  data.held_out = table.texts("held_out");
  std::sort(data.held_out.begin(), data.held_out.end());
}

void read_data(TomlReader& table, const Sources& sources, DataRecipe& data) {
  data.least_sample = table.integer("least_sample", 64, kLongestSequence, data.least_sample);
  data.full_fraction = table.number("full_fraction", 0, 1, data.full_fraction);
  data.question_fraction = table.number("question_fraction", 0.001, 0.9, data.question_fraction);
  data.most_turns = table.integer("most_turns", 1, 4096, data.most_turns);
  data.context_weight = table.number("context_weight", 0, 1, data.context_weight);
  data.answer_weight = table.number("answer_weight", 0.001, 1e4, data.answer_weight);
  if (data.context_weight >= data.answer_weight)
    table.fail("context_weight", fmt::format("expected less than answer_weight = {}, found {}",
                                             data.answer_weight, data.context_weight));
  std::optional<TomlReader> mixture = table.table("mixture");
  if (!mixture) table.fail("mixture", "expected a table of shares, found nothing");
  data.mixture = read_mixture(*mixture, sources);
}

PhaseRecipe read_phase(TomlReader& table, const Sources& sources, const Mixture& mixture) {
  PhaseRecipe phase;
  phase.sequence = table.integer("sequence", 16, kLongestSequence);
  phase.longest_sample = table.integer("longest_sample", 16, phase.sequence, phase.longest_sample);
  phase.tokens = table.integer("tokens", phase.sequence, int64_t{1} << 50);
  phase.batch_tokens = table.integer("batch_tokens", phase.sequence, int64_t{1} << 40);
  if (phase.batch_tokens % phase.sequence != 0)
    table.fail("batch_tokens", fmt::format("expected a multiple of sequence = {}, found {}",
                                           phase.sequence, phase.batch_tokens));
  phase.learning_rate_scale = table.number("learning_rate_scale", kLeastRate, 1e6, 1.0);
  std::optional<TomlReader> own = table.table("mixture");
  phase.mixture = own ? read_mixture(*own, sources) : mixture;
  table.finish();
  return phase;
}

void read_optimizer(TomlReader& table, OptimizerRecipe& optimizer) {
  static const std::string names[] = {"adamw", "muon"};
  optimizer.name = static_cast<OptimizerName>(table.choice("name", names, 0));
  optimizer.learning_rate = table.number("learning_rate", kLeastRate, 10);
  optimizer.beta1 = table.number("beta1", 0, 0.999999, optimizer.beta1);
  optimizer.beta2 = table.number("beta2", 0, 0.999999, optimizer.beta2);
  optimizer.epsilon = table.number("epsilon", 1e-30, 1, optimizer.epsilon);
  optimizer.weight_decay = table.number("weight_decay", 0, 10, optimizer.weight_decay);
  if (optimizer.name == OptimizerName::kMuon)
    optimizer.momentum = table.number("momentum", 0, 0.999999, optimizer.momentum);
  optimizer.clip_norm = table.number("clip_norm", 0, HUGE_VAL, optimizer.clip_norm);
}

void read_schedule(TomlReader& table, ScheduleRecipe& schedule) {
  static const std::string names[] = {"constant", "cosine", "wsd"};
  schedule.name =
      static_cast<ScheduleName>(table.choice("name", names, static_cast<size_t>(schedule.name)));
  schedule.warmup_fraction = table.number("warmup_fraction", 0, 1, schedule.warmup_fraction);
  if (schedule.name == ScheduleName::kWsd)
    schedule.decay_fraction = table.number("decay_fraction", 0, 1, schedule.decay_fraction);
  if (schedule.name != ScheduleName::kConstant)
    schedule.final_rate = table.number("final_rate", 0, 1, schedule.final_rate);
}

void read_precision(TomlReader& table, PrecisionRecipe& precision) {
  static const std::string names[] = {"f32", "bf16"};
  precision.compute = static_cast<Precision>(
      table.choice("compute", names, static_cast<size_t>(precision.compute)));
  precision.recompute = table.boolean("recompute", precision.recompute);
  precision.pass_tokens = table.integer("pass_tokens", 16, int64_t{1} << 40, precision.pass_tokens);
}

void read_checkpoint(TomlReader& table, CheckpointRecipe& checkpoint) {
  checkpoint.every_steps = table.integer("every_steps", 0, kMany, checkpoint.every_steps);
  checkpoint.every_minutes = table.number("every_minutes", 0, 1e6, checkpoint.every_minutes);
  checkpoint.keep = table.integer("keep", 1, 1000, checkpoint.keep);
}

void read_evaluation(TomlReader& table, EvaluationRecipe& evaluation) {
  evaluation.every_steps = table.integer("every_steps", 0, kMany, evaluation.every_steps);
  evaluation.book_tokens =
      table.integer("book_tokens", 0, int64_t{1} << 40, evaluation.book_tokens);
  evaluation.task_tokens =
      table.integer("task_tokens", 0, int64_t{1} << 40, evaluation.task_tokens);
  evaluation.lengths = table.integers("lengths", 16, kLongestSequence);
  std::sort(evaluation.lengths.begin(), evaluation.lengths.end());
}

void read_phases(TomlReader& root, const Sources& sources, Recipe& recipe) {
  for (TomlReader& table : root.tables("phase"))
    recipe.phases.push_back(read_phase(table, sources, recipe.data.mixture));
  if (recipe.phases.empty()) root.fail("phase", "expected at least one [[phase]], found none");
  if (!recipe.evaluation.lengths.empty()) return;
  for (const PhaseRecipe& phase : recipe.phases)
    recipe.evaluation.lengths.push_back(phase.sample_rows());
  auto& lengths = recipe.evaluation.lengths;
  std::sort(lengths.begin(), lengths.end());
  lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
}

Recipe read_root(const toml::table& table, std::string_view origin,
                 const std::filesystem::path& folder, std::span<const std::string> text_tasks) {
  Recipe recipe;
  recipe.name = std::filesystem::path(origin).stem().string();
  TomlReader root(table, "", std::string(origin));
  recipe.seed = static_cast<uint64_t>(root.integer("seed", 0, kMany, 1));
  section(root, "model", [&](TomlReader& t) { read_model(t, folder, recipe.model); });
  section(root, "tokenizer", [&](TomlReader& t) { read_tokenizer(t, folder, recipe.tokenizer); });
  Sources sources(std::begin(tasks::kTinyTasks), std::end(tasks::kTinyTasks));
  if (!recipe.tokenizer.is_tiny) {
    sources.assign(text_tasks.begin(), text_tasks.end());
    sources.emplace(sources.begin(), kBooks);
  }
  section(root, "data", [&](TomlReader& t) {
    if (!recipe.tokenizer.is_tiny) read_texts(t, folder, recipe.data);
    read_data(t, sources, recipe.data);
  });
  section(root, "optimizer", [&](TomlReader& t) { read_optimizer(t, recipe.optimizer); });
  section(root, "schedule", [&](TomlReader& t) { read_schedule(t, recipe.schedule); });
  section(root, "precision", [&](TomlReader& t) { read_precision(t, recipe.precision); });
  section(root, "checkpoint", [&](TomlReader& t) { read_checkpoint(t, recipe.checkpoint); });
  section(root, "evaluation", [&](TomlReader& t) { read_evaluation(t, recipe.evaluation); });
  read_phases(root, sources, recipe);
  root.finish();
  return recipe;
}

}  // namespace

int64_t Recipe::steps() const {
  int64_t steps = 0;
  for (const PhaseRecipe& phase : phases) steps += phase.steps();
  return steps;
}

int64_t Recipe::longest_sequence() const {
  int64_t longest = 0;
  for (const PhaseRecipe& phase : phases)
    longest = std::max(longest, tokenizer.is_tiny ? phase.sample_rows() : phase.sequence);
  return longest;
}

Result<Recipe> parse_recipe(std::string_view toml, std::string_view origin,
                            const std::filesystem::path& folder,
                            std::span<const std::string> tasks) {
  if (!text::is_valid_utf8(toml))  // which the library does not see in all places
    return Error(ErrorCode::kMalformed, "expected UTF-8 text, found other bytes",
                 std::string(origin));
  try {
    return read_root(::toml::parse(toml, origin), origin, folder, tasks);
  } catch (const ::toml::parse_error& error) {
    return Error(ErrorCode::kMalformed,
                 fmt::format("expected TOML, column {}: {}", error.source().begin.column,
                             error.description()),
                 fmt::format("{}:{}", origin, error.source().begin.line));
  } catch (const Error& error) {
    return error;
  } catch (const std::logic_error& error) {
    return Error(ErrorCode::kMalformed,
                 fmt::format("expected TOML, found something else in place of {}", error.what()),
                 std::string(origin));
  }
}

Result<Recipe> load_recipe(const std::filesystem::path& path, std::span<const std::string> tasks) {
  auto text = read_file(path);
  if (!text) return text.error();
  return parse_recipe(text.value(), path.string(), path.parent_path(), tasks);
}

}  // namespace kvasir::data
