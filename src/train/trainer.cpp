#include "train/trainer.h"

#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "base/progress.h"
#include "train/flops.h"
#include "train/train_log.h"

namespace kvasir::train {
namespace {

// Losses are watched over intervals of the log: noise of single steps is no divergence.
class DivergenceWatch {
 public:
  explicit DivergenceWatch(double lowest) : lowest_(lowest) {}

  void check(const std::vector<double>& losses, const std::vector<double>& norms, int64_t first) {
    double sum = 0;
    for (size_t i = 0; i < losses.size(); ++i) {
      if (!std::isfinite(losses[i]) || !std::isfinite(norms[i]))
        fail(first + static_cast<int64_t>(i),
             fmt::format("loss {} and gradient norm {} are no numbers", losses[i], norms[i]));
      sum += losses[i];
    }
    const double mean = sum / static_cast<double>(losses.size());
    if (lowest_ > 0 && mean > kGrowth * lowest_ + kSlack)
      fail(first, fmt::format("the loss grew to {:.3f}, from {:.3f} at its lowest", mean, lowest_));
    if (lowest_ == 0 || mean < lowest_) lowest_ = mean;
  }
  double lowest() const { return lowest_; }
  void forget() { lowest_ = 0; }

 private:
  // A run that has lost this much does not come back by itself.
  static constexpr double kGrowth = 1.5, kSlack = 1;

  [[noreturn]] static void fail(int64_t step, const std::string& what) {
    throw Error(ErrorCode::kInternal,
                what +
                    "; lower the learning rate or the clipping norm, or lengthen the warm-up, and "
                    "go on from the last checkpoint with --resume",
                fmt::format("training diverged at step {}", step + 1));
  }
  double lowest_;
};

class Run {
 public:
  Run(const TrainOptions& options, BatchSource& data, ProcessGroup* group)
      : options_(options),
        data_(data),
        group_(group),
        schedule_(options.schedule),
        config_(formats::load_model_config(options.model).value()),
        parameters_(config_, options.device, options.compute),
        optimizer_(parameters_, options.optimizer),
        step_(parameters_, optimizer_, group, options.step),
        place_{options.out, options.model, options.keep},
        state_(start()),
        watch_(state_.lowest_loss) {
    std::filesystem::create_directories(options.out);
    if (is_writer()) log_ = std::make_unique<TrainLog>(options.out, state_.step);
  }

  TrainResult run() {
    say(fmt::format("{} parameters, {} of {} steps done", with_thousands(parameters_.count()),
                    state_.step, schedule_.total_steps));
    last_checkpoint_ = interval_start_ = now();
    while (state_.step < schedule_.total_steps) {
      one_step();
      const bool logs = state_.step % options_.log_every == 0;
      // Asking the others takes waiting for them: not at every step.
      const bool asks = logs || !group_;
      const bool stops = options_.stop && asks && any(options_.stop());
      const bool ends = stops || state_.step == schedule_.total_steps;
      const bool by_time = options_.checkpoint_minutes > 0 && logs && any(is_time());
      const bool evaluates = state_.step == schedule_.total_steps || every(options_.evaluate_every);
      const bool writes = ends || every(options_.checkpoint_every) || by_time;
      if (writes || logs) read_metrics();
      if (writes) checkpoint();
      if (evaluates) evaluate();
      if (stops) break;
    }
    result_.steps = state_.step;
    return result_;
  }

 private:
  bool is_writer() const { return !group_ || group_->rank() == 0; }
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  void say(const std::string& line) const {
    if (options_.say && is_writer()) options_.say(line);
  }

  TrainState start() {
    if (options_.start == StartFrom::kCheckpoint) {
      const auto latest = latest_checkpoint(options_.out);
      if (!latest)
        throw Error(ErrorCode::kNotFound, "expected a checkpoint to go on from, found none",
                    options_.out.string());
      result_.checkpoint = *latest;
      TrainState state = has_training_state(*latest)
                             ? read_checkpoint(*latest, parameters_, optimizer_)
                             : read_weights(*latest, step_of(*latest));
      schedule_.first_step = state.first_step;
      data_.seek(state.data, state.step);
      return state;
    }
    if (latest_checkpoint(options_.out))
      throw Error(ErrorCode::kInvalidArgument,
                  "expected an empty folder, found checkpoints; go on with --resume or choose "
                  "another --out",
                  options_.out.string());
    if (options_.start == StartFrom::kWeights) return read_weights(options_.model, 0);
    parameters_.initialise(options_.seed, options_.init_deviation);
    return {};
  }

  // Weights that have so many steps behind them, and nothing else.
  TrainState read_weights(const std::filesystem::path& folder, int64_t step) {
    models::FileWeights source(formats::WeightFiles::open(folder).value());
    parameters_.load(source);
    return {.step = step, .tokens = 0, .data = {}, .lowest_loss = 0, .first_step = step};
  }

  // What was the lowest loss of other batches says nothing about these.
  void begin_phase() {
    if (state_.step == 0 || data_.phase(state_.step) == data_.phase(state_.step - 1)) return;
    read_metrics();
    watch_.forget();
  }

  void one_step() {
    begin_phase();
    const double rate = options_.optimizer.learning_rate * data_.learning_rate_scale(state_.step) *
                        learning_rate_fraction(schedule_, state_.step);
    metrics_.push_back(step_.run(
        data_.batches(state_.step),
        [&] {
          Batch batch = data_.next();
          const auto rows = static_cast<double>(batch.tokens.size());
          interval_rows_ += rows;
          interval_flops_ += rows * flops_per_row(config_, keys_per_row(batch.documents));
          return batch;
        },
        rate));
    last_rate_ = rate;
    ++state_.step;
  }

  // Waits for the device once for all steps since the last time.
  void read_metrics() {
    if (metrics_.empty()) return;
    const at::Tensor all = at::stack(metrics_).cpu();
    std::vector<double> losses, norms;
    for (int64_t i = 0; i < all.size(0); ++i) {
      losses.push_back(all[i][0].item<double>());
      norms.push_back(all[i][1].item<double>());
    }
    const auto steps = static_cast<int64_t>(losses.size());
    metrics_.clear();
    result_.loss = losses.back();
    const double time = now(), seconds = std::max(time - interval_start_, 1e-9);
    const int processes = group_ ? group_->size() : 1;
    state_.tokens += static_cast<int64_t>(interval_rows_) * processes;
    double mean = 0;
    for (const double loss : losses) mean += loss / static_cast<double>(steps);
    const LogLine line{.step = state_.step,
                       .loss = mean,
                       .gradient_norm = norms.back(),
                       .learning_rate = last_rate_,
                       .tokens = state_.tokens,
                       .tokens_per_second = interval_rows_ * processes / seconds,
                       .utilisation = options_.peak_flops > 0
                                          ? interval_flops_ / seconds / options_.peak_flops
                                          : 0};
    if (log_ && std::isfinite(mean)) log_->write(line);
    tell(line, seconds / static_cast<double>(steps));
    interval_start_ = time;
    interval_rows_ = interval_flops_ = 0;
    watch_.check(losses, norms, state_.step - steps);
  }

  void tell(const LogLine& line, double seconds_per_step) const {
    const double left = seconds_per_step * static_cast<double>(schedule_.total_steps - line.step);
    say(fmt::format(
        "step {}/{}  loss {:.4f}  gradient {:.3f}  rate {:.2e}  {} tokens/s{}  {} left", line.step,
        schedule_.total_steps, line.loss, line.gradient_norm, line.learning_rate,
        with_thousands(static_cast<int64_t>(line.tokens_per_second)),
        line.utilisation > 0 ? fmt::format("  {:.1f} % of peak", 100 * line.utilisation) : "",
        as_duration(left)));
  }

  void checkpoint() {
    state_.data = data_.position();
    state_.lowest_loss = watch_.lowest();
    if (is_writer()) {
      result_.checkpoint = write_checkpoint(place_, parameters_, optimizer_, state_);
      log_->draw();
    }
    if (group_) group_->barrier();
    last_checkpoint_ = interval_start_ = now();
  }

  void evaluate() {
    const double before = now();
    if (is_writer() && !options_.evaluations.empty()) {
      const double start = now();
      const bool is_end = state_.step == schedule_.total_steps;
      std::vector<Measurement> found;
      for (const EvaluationSet& set : options_.evaluations)
        if (is_end || !options_.measures_length ||
            options_.measures_length(state_.step, set.length))
          found.push_back(step_.evaluate(set));
      log_->write(state_.step, found, now() - start);
      log_->draw();
      for (const std::string& line : evaluation_lines(state_.step, found)) say(line);
    }
    if (group_) group_->barrier();
    // Measuring is no part of the tokens a second.
    interval_start_ += now() - before;
  }

  bool every(int64_t steps) const { return steps > 0 && state_.step % steps == 0; }

  bool is_time() const { return now() - last_checkpoint_ >= 60 * options_.checkpoint_minutes; }

  // Whether any process says so: clocks and signals of processes differ, what they do must not.
  bool any(bool mine) {
    if (!group_) return mine;
    at::Tensor votes = at::full({1}, mine ? 1.0 : 0.0, parameters_.masters().options());
    group_->sum(votes);
    return votes.item<double>() > 0;
  }

  const TrainOptions& options_;
  BatchSource& data_;
  ProcessGroup* group_;
  Schedule schedule_;
  formats::ModelConfig config_;
  Parameters parameters_;
  Optimizer optimizer_;
  TrainStep step_;
  CheckpointPlace place_;
  TrainResult result_;
  TrainState state_;
  DivergenceWatch watch_;
  std::unique_ptr<TrainLog> log_;
  std::vector<at::Tensor> metrics_;  // of the steps since they were last read
  double last_checkpoint_ = 0, interval_start_ = 0, interval_rows_ = 0, interval_flops_ = 0,
         last_rate_ = 0;
};

}  // namespace

TrainResult train(const TrainOptions& options, BatchSource& data, ProcessGroup* group) {
  return Run(options, data, group).run();
}

}  // namespace kvasir::train
