#include "bench/train_bench.h"

#include <ATen/TensorOperators.h>
#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <random>

#include "bench/model_bench.h"
#include "train/flops.h"
#include "train/train_step.h"

namespace kvasir::bench {
namespace {

// Rows that a pass works on, and passes of a step: of a size that a run would choose.
struct StepSize {
  int64_t rows, passes;
};

StepSize step_size(const formats::ModelConfig& config, bool on_gpu, int64_t length) {
  if (!on_gpu) return {length, 1};
  const StepSize size = config.hidden_size >= 1024 ? StepSize{16384, 4} : StepSize{65536, 2};
  return {std::max(size.rows / length, int64_t{1}) * length, size.passes};
}

train::Batch random_batch(int64_t rows, int64_t length, int64_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  train::Batch batch{.weights = std::vector<float>(static_cast<size_t>(rows), 1.0f)};
  for (int64_t row = 0; row < rows; ++row)
    batch.tokens.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocab)));
  batch.targets.assign(batch.tokens.begin() + 1, batch.tokens.end());
  batch.targets.push_back(0);
  for (int64_t row = 0; row <= rows; row += length)
    batch.documents.push_back(static_cast<int32_t>(row));
  return batch;
}

}  // namespace

Report train(const BenchOptions& options, const std::optional<cuda::Device>& gpu,
             std::ostream& progress) {
  const formats::ModelConfig config = model_config(options);
  Report report{
      "training, " + (options.shape.empty() ? options.model.filename().string() : options.shape),
      {}};
  if (gpu) report.device = gpu->name;
  const at::Device device =
      gpu ? at::Device(at::kCUDA, static_cast<at::DeviceIndex>(gpu->index)) : at::Device(at::kCPU);
  const double peak = gpu ? train::peak_flops(gpu->name) : 0;
  train::Parameters parameters(config, device, gpu ? at::kBFloat16 : at::kFloat);
  parameters.initialise(1);
  train::Optimizer optimizer(parameters, {});
  for (const int64_t length :
       lengths_or(options, gpu ? config.hidden_size >= 1024 ? std::vector<int64_t>{8192}
                                                            : std::vector<int64_t>{1024, 4096}
                               : std::vector<int64_t>{512})) {
    const auto [rows, passes] = step_size(config, gpu.has_value(), length);
    progress << fmt::format("training, {} passes of {} rows, sequences of {}\n", passes, rows,
                            length);
    std::vector<train::Batch> batches;
    for (uint64_t i = 0; i < 4; ++i)
      batches.push_back(random_batch(rows, length, config.vocab_size, i));
    train::TrainStep step(parameters, optimizer, nullptr, {});
    size_t next = 0;
    constexpr int kSteps = 4;  // between two looks at the losses
    const Timing timing = measure(options.repetitions, [&] {
      at::Tensor metrics;
      for (int i = 0; i < (gpu ? kSteps : 1); ++i)
        metrics = step.run(passes, [&] { return batches[next++ % batches.size()]; }, 1e-5);
      metrics.cpu();
    });
    const double tokens = static_cast<double>(rows * passes * (gpu ? kSteps : 1));
    const double flops =
        tokens * train::flops_per_row(config, train::keys_per_row(batches[0].documents));
    Line line{fmt::format("sequences of {}", length),
              timing,
              {{"tokens/s", tokens / timing.median_seconds},
               {"TFLOP/s", flops / timing.median_seconds / 1e12}}};
    if (peak > 0) line.figures.push_back({"of peak", flops / timing.median_seconds / peak});
    report.lines.push_back(std::move(line));
  }
  return report;
}

}  // namespace kvasir::bench
