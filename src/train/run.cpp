#include "train/run.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/cpu_info.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "data/bpe_trainer.h"
#include "data/prepare.h"
#include "data/task_samples.h"
#include "data/tiny_samples.h"
#include "data/tiny_tokenizer.h"
#include "tasks/haystack.h"
#include "tasks/text_tasks.h"
#include "tasks/tiny.h"
#include "text/tokenizer.h"
#include "train/flops.h"
#include "train/gpu.h"
#include "train/recipe_batches.h"

namespace kvasir::train {
namespace {

namespace fs = std::filesystem;

// The tasks that any phase trains on.
std::set<std::string> tasks_of(const data::Recipe& recipe) {
  std::set<std::string> tasks;
  for (const data::PhaseRecipe& phase : recipe.phases)
    for (const auto& [source, share] : phase.mixture)
      if (source != data::kBooks && share > 0) tasks.insert(source);
  return tasks;
}

// What is never trained on: books, and tasks with their answers.
std::vector<EvaluationSet> evaluations_of(const data::BatchSource& source, ThreadPool& pool) {
  std::vector<EvaluationSet> sets;
  const data::Recipe& recipe = source.recipe();
  if (!recipe.tokenizer.is_tiny && recipe.data.held_out.empty()) return sets;
  for (const int64_t length : recipe.evaluation.lengths) {
    EvaluationSet& books = sets.emplace_back(EvaluationSet{"books", length, false, {}});
    for (data::Batch& batch : source.held_out_books(length))
      books.batches.push_back({std::move(batch), {}});
    for (const std::string& task : tasks_of(recipe))
      sets.push_back({task, length, true, source.held_out_samples(task, length, pool)});
  }
  std::erase_if(sets, [](const EvaluationSet& set) { return set.batches.empty(); });
  return sets;
}

// The least length, and the longest that the phase of the step has room for.
bool measures_length(const data::Recipe& recipe, int64_t step, int64_t length) {
  const std::vector<int64_t>& lengths = recipe.evaluation.lengths;
  const auto phase = static_cast<size_t>(data::plan_step(recipe, step - 1).phase);
  const int64_t room = recipe.phases[phase].sample_rows();
  const auto beyond = std::upper_bound(lengths.begin(), lengths.end(), room);
  return length == lengths.front() || (beyond != lengths.begin() && length == beyond[-1]);
}

std::string config_json(const data::Recipe& recipe, const text::Tokenizer& tokenizer) {
  const data::ModelRecipe& model = recipe.model;
  nlohmann::ordered_json json{{"architectures", {"LlamaForCausalLM"}},
                              {"model_type", "llama"},
                              {"hidden_size", model.hidden_size},
                              {"intermediate_size", model.intermediate_size},
                              {"num_hidden_layers", model.num_hidden_layers},
                              {"num_attention_heads", model.num_attention_heads},
                              {"num_key_value_heads", model.num_key_value_heads},
                              {"head_dim", model.head_dim},
                              {"vocab_size", tokenizer.vocab_size()},
                              {"rms_norm_eps", model.rms_norm_eps},
                              {"rope_theta", model.rope_theta},
                              {"max_position_embeddings", recipe.longest_sequence()},
                              {"tie_word_embeddings", model.tie_word_embeddings},
                              {"hidden_act", "silu"},
                              {"attention_bias", false},
                              {"mlp_bias", false},
                              {"torch_dtype", "bfloat16"}};
  const auto add = [&](const char* key, std::string_view token) {
    if (const auto id = tokenizer.token_to_id(token)) json[key] = *id;
  };
  const bool is_tiny = recipe.tokenizer.is_tiny;
  add("bos_token_id", is_tiny ? data::kTinyBegin : data::kBeginToken);
  add("eos_token_id", is_tiny ? data::kTinyEnd : data::kEndToken);
  add("pad_token_id", is_tiny ? data::kTinyPad : data::kPadToken);
  return json.dump(1) + "\n";
}

// The folder that checkpoints copy their files from: the recipe's model, or a new one's.
fs::path model_folder(const data::Recipe& recipe, const fs::path& tokenizer_folder,
                      const text::Tokenizer& tokenizer, const fs::path& output) {
  if (!recipe.model.from.empty()) return recipe.model.from;
  const fs::path folder = output / "model";
  fs::create_directories(folder);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    write_file(folder / name, read_file(tokenizer_folder / name).value()).value();
  const std::string config = config_json(recipe, tokenizer);
  const nlohmann::json parsed = nlohmann::json::parse(config);
  nlohmann::ordered_json generation = nlohmann::ordered_json::object();
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    if (parsed.contains(key)) generation[key] = parsed[key];
  write_file(folder / "generation_config.json", generation.dump(1) + "\n").value();
  write_file(folder / "config.json", config).value();
  return folder;
}

// What makes the samples of a recipe, with all that it needs.
struct SampleMaker {
  SampleMaker(const data::Recipe& recipe, const data::Prepared& prepared,
              const text::Tokenizer& tokenizer) {
    if (recipe.tokenizer.is_tiny) {
      begin = tasks::tiny::kBos;
      samples = std::make_unique<data::TinySamples>(recipe.data);
      return;
    }
    encoder = data::ChatEncoder::make(tokenizer).value();
    begin = encoder->begin();
    // Sentences for tasks that are set in books.
    const auto load = [](const std::vector<fs::path>& texts, auto& haystack) {
      if (!texts.empty()) haystack = tasks::Haystack::load(texts).value();
      return haystack ? &*haystack : nullptr;
    };
    samples = std::make_unique<data::TaskSamples>(tasks::make_text_task, *encoder, recipe.data,
                                                  load(prepared.training_texts, training),
                                                  load(prepared.held_out_texts, held_out));
  }

  std::optional<data::ChatEncoder> encoder;
  std::optional<tasks::Haystack> training, held_out;
  std::unique_ptr<data::SampleSource> samples;
  int32_t begin = 0;
};

Schedule schedule_of(const data::Recipe& recipe) {
  const auto steps = static_cast<double>(recipe.steps());
  const data::ScheduleRecipe& from = recipe.schedule;
  return {.kind = from.name == data::ScheduleName::kConstant ? ScheduleKind::kConstant
                  : from.name == data::ScheduleName::kCosine ? ScheduleKind::kCosine
                                                             : ScheduleKind::kWsd,
          .total_steps = recipe.steps(),
          .warmup_steps = static_cast<int64_t>(steps * from.warmup_fraction),
          .decay_steps = static_cast<int64_t>(steps * from.decay_fraction),
          .final_fraction = from.final_rate};
}

OptimizerOptions optimizer_of(const data::OptimizerRecipe& from) {
  return {.kind = from.name == data::OptimizerName::kMuon ? OptimizerKind::kMuon
                                                          : OptimizerKind::kAdamW,
          .learning_rate = from.learning_rate,
          .beta1 = from.beta1,
          .beta2 = from.beta2,
          .epsilon = from.epsilon,
          .weight_decay = from.weight_decay,
          .momentum = from.momentum};
}

TrainOptions options_of(const data::Recipe& recipe, const RunOptions& run) {
  TrainOptions options;
  options.out = run.output;
  options.start = run.resume                  ? StartFrom::kCheckpoint
                  : recipe.model.from.empty() ? StartFrom::kScratch
                                              : StartFrom::kWeights;
  options.compute = recipe.precision.compute == data::Precision::kBf16 ? at::kBFloat16 : at::kFloat;
  options.seed = recipe.seed;
  options.init_deviation = recipe.model.init_std;
  options.schedule = schedule_of(recipe);
  options.optimizer = optimizer_of(recipe.optimizer);
  options.step = {.clip_norm = recipe.optimizer.clip_norm, .recompute = recipe.precision.recompute};
  options.checkpoint_every = recipe.checkpoint.every_steps;
  options.checkpoint_minutes = recipe.checkpoint.every_minutes;
  options.keep = static_cast<int>(recipe.checkpoint.keep);
  options.evaluate_every = recipe.evaluation.every_steps;
  options.say = run.say;
  options.stop = run.stop;
  return options;
}

}  // namespace

fs::path run_recipe(const RunOptions& run) {
  const data::Recipe recipe = data::load_recipe(run.recipe, data::task_names()).value();
  const int threads = run.threads > 0 ? run.threads : usable_cpus();
  ThreadPool pool(threads);
  at::set_num_threads(threads);
  const TrainDevice device = train_device(run.device, run.rank);
  std::unique_ptr<ProcessGroup> group;
  if (run.processes > 1)
    group = join_process_group(
        {.rank = run.rank, .size = run.processes, .meeting = run.meeting, .device = device.device});

  // The first process makes what is not there; the others read it.
  if (group && run.rank > 0) group->barrier();
  const data::Prepared prepared =
      data::prepare(recipe, {.corpus = run.corpus, .output = run.output}, pool).value();
  const text::Tokenizer tokenizer =
      text::Tokenizer::load(prepared.tokenizer / "tokenizer.json").value();
  const fs::path model = model_folder(recipe, prepared.tokenizer, tokenizer, run.output);
  if (group && run.rank == 0) group->barrier();

  const SampleMaker maker(recipe, prepared, tokenizer);
  const data::BatchSource source =
      data::BatchSource::make(recipe, prepared.corpus, *maker.samples, maker.begin).value();
  const data::Share share{
      .rank = run.rank, .processes = run.processes, .pass_tokens = recipe.precision.pass_tokens};
  RecipeBatches batches(source, share, {.threads = std::max(1, threads / 2), .ahead = 4});

  TrainOptions options = options_of(recipe, run);
  options.model = model;
  options.device = device.device;
  options.peak_flops = peak_flops(device.name);
  if (run.rank == 0) options.evaluations = evaluations_of(source, pool);
  options.measures_length = [&recipe](int64_t step, int64_t length) {
    return measures_length(recipe, step, length);
  };
  return train(options, batches, group.get()).checkpoint;
}

}  // namespace kvasir::train
