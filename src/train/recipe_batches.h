#pragma once
// The batches of a recipe, prepared ahead by threads, for a training run.

#include <memory>
#include <string>

#include "data/batch_source.h"
#include "data/loader.h"
#include "train/trainer.h"

namespace kvasir::train {

class RecipeBatches final : public BatchSource {
 public:
  // `source` must outlive it. Throws kInvalidArgument where steps cannot be shared out.
  RecipeBatches(const data::BatchSource& source, const data::Share& share,
                const data::LoaderOptions& options);

  Batch next() override;
  int64_t batches(int64_t step) const override;
  double learning_rate_scale(int64_t step) const override;
  int64_t phase(int64_t step) const override;
  // The fingerprint of recipe and corpus: a run goes on with the same alone.
  std::string position() const override;
  void seek(const std::string& position, int64_t step) override;

 private:
  const data::BatchSource& source_;
  data::Share share_;
  data::LoaderOptions options_;
  std::string fingerprint_;
  std::unique_ptr<data::Loader> loader_;
};

}  // namespace kvasir::train
