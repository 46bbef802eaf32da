#pragma once
// A training run as one TOML file: everything that decides what is trained, on what and how, and
// nothing that belongs to the machine it runs on.

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace kvasir::data {

// Shares of the rows of a run by source: "books" and text tasks, or tiny tasks, by name. Not
// negative; their sum is more than 0 and need not be 1.
using Mixture = std::map<std::string, double, std::less<>>;
inline constexpr std::string_view kBooks = "books";

// [model]: a new model's shape, by the names of config.json (vocab_size is the tokenizer's,
// max_position_embeddings the longest phase's), or the folder of one to go on with.
struct ModelRecipe {
  std::filesystem::path from;  // empty: a new model; otherwise the shape is that folder's
  int64_t hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0;
  int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  bool tie_word_embeddings = true;
  double rope_theta = 0;
  double rms_norm_eps = 1e-5;
  double init_std = 0.02;  // of a new model's matrices
};

// [tokenizer]: one that is there, one to train on the corpus without its held-out titles, or the
// words of the tiny family (kind = "tiny-v1"), which have tasks of their own and no books.
struct TokenizerRecipe {
  bool is_tiny = false;
  std::filesystem::path from;  // a folder with tokenizer.json; empty: train
  int64_t vocab_size = 0;      // special tokens included
  bool single_digits = true;   // every digit is a token of its own
};

// [data]
struct DataRecipe {
  std::filesystem::path corpus;       // folder of text files; empty: the command line names it
  std::filesystem::path manifest;     // what must lie there
  std::vector<std::string> held_out;  // titles that are never trained on, sorted
  Mixture mixture;
  // Of the sequences for tasks, this share is filled by one sample; the others hold several, whose
  // lengths are spread evenly over doublings from `least_sample` on. In a sample, turns of question
  // and answer take about `question_fraction`, and are `most_turns` at most.
  double full_fraction = 0.5;
  int64_t least_sample = 256;
  double question_fraction = 0.25;
  int64_t most_turns = 32;
  // Of the loss on a task's document and on its answers, which are few; books count 1, questions 0.
  double context_weight = 0.05;
  double answer_weight = 1;
};

// One [[phase]]: so many tokens at one length.
struct PhaseRecipe {
  int64_t sequence = 0;        // rows of a sequence, into which documents are packed
  int64_t longest_sample = 0;  // of tasks; 0: as long as the sequence
  int64_t tokens = 0;          // of the phase; the last step may go beyond
  int64_t batch_tokens = 0;    // of a step over all processes: a multiple of `sequence`
  double learning_rate_scale = 1;
  Mixture mixture;  // [data]'s, or the phase's own in its place

  int64_t sample_rows() const { return longest_sample > 0 ? longest_sample : sequence; }
  int64_t sequences_of_step() const { return batch_tokens / sequence; }
  int64_t steps() const { return (tokens + batch_tokens - 1) / batch_tokens; }
};

enum class OptimizerName : uint8_t { kAdamW, kMuon };

// [optimizer]
struct OptimizerRecipe {
  OptimizerName name = OptimizerName::kAdamW;
  double learning_rate = 0;  // the highest
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.1;
  double momentum = 0.95;  // Muon's
  double clip_norm = 1;    // of the gradient; 0: no limit
};

enum class ScheduleName : uint8_t { kConstant, kCosine, kWsd };

// [schedule]: fractions of all steps, and of the highest rate.
struct ScheduleRecipe {
  ScheduleName name = ScheduleName::kCosine;
  double warmup_fraction = 0.02;
  double decay_fraction = 0.2;  // wsd
  double final_rate = 0.1;
};

enum class Precision : uint8_t { kF32, kBf16 };

// [precision]: of the forward and backward pass. Master weights and moments are f32.
struct PrecisionRecipe {
  Precision compute = Precision::kBf16;
  bool recompute = false;       // layers keep their inputs alone
  int64_t pass_tokens = 65536;  // rows that one process works on at a time, at least one sequence
};

// [checkpoint]: whichever comes first; 0 = not by that.
struct CheckpointRecipe {
  int64_t every_steps = 0;
  double every_minutes = 10;
  int64_t keep = 2;
};

// [evaluation]
struct EvaluationRecipe {
  int64_t every_steps = 0;       // 0: at the end only
  int64_t book_tokens = 262144;  // of held-out titles, at each length
  int64_t task_tokens = 262144;  // of each task's samples, at each length; at least one sample
  // Ascending; default: the phases' lengths. During a phase the least and the longest that it has
  // room for are measured; at the end all.
  std::vector<int64_t> lengths;
};

struct Recipe {
  std::string name;  // the file's, without folder and ending
  uint64_t seed = 1;
  ModelRecipe model;
  TokenizerRecipe tokenizer;
  DataRecipe data;
  std::vector<PhaseRecipe> phases;
  OptimizerRecipe optimizer;
  ScheduleRecipe schedule;
  PrecisionRecipe precision;
  CheckpointRecipe checkpoint;
  EvaluationRecipe evaluation;

  int64_t steps() const;             // of all phases
  int64_t longest_sequence() const;  // of all phases; where there are no books, sample
};

// Reads a recipe. `tasks` are the text tasks that a mixture may name besides "books"; see
// task_names().
// Paths in the file are relative to `folder`. Errors: kMalformed with file, line
// and field, what was expected and found; unknown keys are errors that name the nearest known one.
Result<Recipe> parse_recipe(std::string_view toml, std::string_view origin,
                            const std::filesystem::path& folder,
                            std::span<const std::string> tasks);
// The same from a file. Errors: as above, kNotFound, kIo.
Result<Recipe> load_recipe(const std::filesystem::path& path, std::span<const std::string> tasks);

}  // namespace kvasir::data
