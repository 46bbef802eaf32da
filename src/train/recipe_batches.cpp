#include "train/recipe_batches.h"

#include "kvasir/error.h"

namespace kvasir::train {

RecipeBatches::RecipeBatches(const data::BatchSource& source, const data::Share& share,
                             const data::LoaderOptions& options)
    : source_(source),
      share_(share),
      options_(options),
      fingerprint_(source.fingerprint()),
      loader_(std::make_unique<data::Loader>(source, share, 0, options)) {}

Batch RecipeBatches::next() {
  std::optional<Batch> batch = loader_->next();
  if (!batch) throw Error(ErrorCode::kInternal, "the recipe's steps are over", "training data");
  return std::move(*batch);
}

int64_t RecipeBatches::batches(int64_t step) const {
  return share_.passes(data::plan_step(source_.recipe(), step));
}

double RecipeBatches::learning_rate_scale(int64_t step) const {
  return data::plan_step(source_.recipe(), step).learning_rate_scale;
}

int64_t RecipeBatches::phase(int64_t step) const {
  return data::plan_step(source_.recipe(), step).phase;
}

std::string RecipeBatches::position() const { return fingerprint_; }

void RecipeBatches::seek(const std::string& position, int64_t step) {
  if (!position.empty() && position != fingerprint_)
    throw Error(ErrorCode::kInvalidArgument,
                "expected the recipe, tokenizer and texts that the run began with; found others",
                "--resume");
  loader_.reset();
  loader_ = std::make_unique<data::Loader>(source_, share_, step, options_);
}

}  // namespace kvasir::train
