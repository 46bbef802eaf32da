#pragma once
// A training run: steps, log, checkpoints, the watch over divergence.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "train/checkpoint.h"
#include "train/optimizer.h"
#include "train/process_group.h"
#include "train/schedule.h"
#include "train/train_step.h"

namespace kvasir::train {

// Where batches come from. Deterministic: after seek(p, s) come the batches that came after
// position() was p with s steps done; where p is empty, those of any run.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual Batch next() = 0;
  // How many batches of next() make a step, and its learning rate beside the schedule's.
  virtual int64_t batches(int64_t step) const = 0;
  virtual double learning_rate_scale(int64_t) const { return 1; }
  // Steps of one phase have batches of one kind: losses of different phases are not compared.
  virtual int64_t phase(int64_t) const { return 0; }
  virtual std::string position() const = 0;
  virtual void seek(const std::string& position, int64_t step) = 0;
};

enum class StartFrom : uint8_t {
  kScratch,     // random weights
  kWeights,     // those of the model's folder, with a fresh optimiser that warms up
  kCheckpoint,  // the run's latest, exactly where it was; where `training/` is missing there, with
                // its weights at its step and a fresh optimiser that warms up
};

struct TrainOptions {
  std::filesystem::path model;  // config.json and tokenizer; also weights for kWeights
  std::filesystem::path out;    // checkpoints, log.jsonl, loss.svg
  StartFrom start = StartFrom::kScratch;
  at::Device device = at::kCPU;
  at::ScalarType compute = at::kFloat;
  uint64_t seed = 0;  // of random weights
  double init_deviation = 0.02;
  Schedule schedule;  // total_steps: of the run
  OptimizerOptions optimizer;
  StepOptions step;
  int64_t log_every = 10;           // steps; losses are read and watched this often
  int64_t checkpoint_every = 1000;  // steps; 0: not by steps
  double checkpoint_minutes = 0;    // asked at every line of the log; 0: not by time
  int keep = 3;
  double peak_flops = 0;  // of the device; 0: utilisation is not told
  // Measured by rank 0 and logged, every so many steps and at the end.
  std::vector<EvaluationSet> evaluations;
  // Which lengths behind so many steps; null: all. At the end all are measured.
  std::function<bool(int64_t step, int64_t length)> measures_length;
  int64_t evaluate_every = 0;                   // 0: at the end only
  std::function<void(const std::string&)> say;  // a line for a person; null: silent
  std::function<bool()> stop;  // asked between steps (with a group: at lines of the log); ends the
                               // run with a checkpoint
};

struct TrainResult {
  int64_t steps = 0;
  double loss = 0;  // of the last step that was read
  std::filesystem::path checkpoint;
};

// Runs to the end of the schedule. With a group, rank 0 writes. Throws kInternal with the step
// where losses are no numbers or grow without end; the last checkpoint is from before.
TrainResult train(const TrainOptions& options, BatchSource& data, ProcessGroup* group);

}  // namespace kvasir::train
