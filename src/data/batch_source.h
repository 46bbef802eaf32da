#pragma once
// The batches of a run: a pure function of recipe, corpus and step. Nothing is kept from one step
// to the next, so a run that goes on at step N needs no state to see what it would have seen.
//
// A step has so many sequences of the phase's length. Each is filled to the last row with
// documents:
//   - books: the training texts one after another are one stream, cut into sequences; a text that
//     begins inside a sequence begins a new document. Sequences come in shuffled order, and every
//     token is a target once in each round over the texts (all but the rest that makes no
//     sequence);
//   - tasks: one sample that fills the sequence, or several of various lengths. What is left is
//     filled with a piece of a book, or, where a recipe has none, with rows that count nothing.
// A document's first row is <|begin|>; each row's target is the document's next token.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "data/batch.h"
#include "data/corpus.h"
#include "data/recipe.h"
#include "data/sample.h"

namespace kvasir::data {

struct StepPlan {
  int64_t step = 0;
  int64_t phase = 0;      // of Recipe::phases
  int64_t sequence = 0;   // rows of one
  int64_t sequences = 0;  // of the step, over all processes
  int64_t first = 0;      // its first sequence within the phase
  double learning_rate_scale = 1;
};

// Precondition: 0 <= step < recipe.steps().
StepPlan plan_step(const Recipe& recipe, int64_t step);

// Which part of each step a process works on, and in how many passes.
struct Share {
  int64_t rank = 0, processes = 1;
  int64_t pass_tokens = 65536;

  int64_t passes(const StepPlan& plan) const;
  // The sequences [first, first + count) of a pass.
  struct Range {
    int64_t first = 0, count = 0;
  };
  Range pass(const StepPlan& plan, int64_t pass) const;
};
// Each step's sequences can be shared out evenly. Errors: kInvalidArgument.
Result<void> check_share(const Recipe& recipe, const Share& share);

class BatchSource {
 public:
  // `corpus` and `samples` must outlive it. `begin`: the id of <|begin|>. Errors: kInvalidArgument
  // (held-out titles that are not in the corpus; fewer tokens to train on than a sequence has).
  static Result<BatchSource> make(Recipe recipe, const Corpus& corpus, const SampleSource& samples,
                                  int32_t begin);

  // Sequences [first, first + count) of a step, packed one after another. Thread-safe. Throws
  // Error.
  Batch batch(const StepPlan& plan, int64_t first, int64_t count) const;

  // For evaluation, of the recipe's numbers of tokens and packed into passes: windows of held-out
  // titles, and samples of a task, which `pool` makes. Nothing of them is ever in a training batch.
  std::vector<Batch> held_out_books(int64_t length) const;
  std::vector<AnswerBatch> held_out_samples(std::string_view task, int64_t length,
                                            ThreadPool& pool) const;

  const Recipe& recipe() const { return recipe_; }
  int64_t training_tokens() const { return starts_.back(); }
  // SHA-256 of all that decides the batches: a run may go on only where it is the same.
  std::string fingerprint() const;

 private:
  BatchSource(Recipe recipe, const Corpus& corpus, const SampleSource& samples, int32_t begin);
  void add_sequence(const StepPlan& plan, int64_t index, Batch& batch) const;
  void add_samples(const StepPlan& plan, int64_t index, int64_t rows, Batch& batch) const;
  void add_padding(int64_t rows, Batch& batch) const;
  void add_books(int64_t position, int64_t rows, Batch& batch) const;
  void add_text(const TokenView& tokens, int64_t first, int64_t rows, Batch& batch) const;
  void add_sample(const Sample& sample, Batch& batch) const;
  bool has_room(const Batch& batch, int64_t rows) const;

  Recipe recipe_;
  const Corpus* corpus_;
  const SampleSource* samples_;
  int32_t begin_;
  std::vector<const TokenView*> texts_;  // to train on, none empty
  std::vector<int64_t> starts_;          // of each in the stream of all, then its length
  std::vector<const TokenView*> held_out_;
};

}  // namespace kvasir::data
