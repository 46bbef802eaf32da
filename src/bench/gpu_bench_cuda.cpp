#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ostream>

#include "bench/gpu_attention_cuda.h"
#include "bench/gpu_bench.h"
#include "bench/gpu_timing_cuda.h"
#include "bench/model_bench.h"
#include "bench/yardsticks_cuda.h"
#include "engine/gpu.h"
#include "models/weights_cuda.h"

namespace kvasir::bench {
namespace {

using Lengths = std::vector<int64_t>;

// What the measurements of one run share.
struct Gpu {
  const BenchOptions& options;
  const cuda::Device& device;
  ThreadPool& pool;
  std::ostream& progress;
  Report& report;
  cuda::Context context;

  void say(const std::string& text) const { progress << text << "\n"; }
  void note_clocks(const char* when) const {
    if (const std::string clocks = clocks_and_power(device.index); !clocks.empty())
      report.notes.push_back(fmt::format("{}: {}", when, clocks));
  }
};

// Median seconds of `run` replayed as a graph of `count` runs, so that launches do not count.
Timing measure_as_graph(const Gpu& gpu, int count, const std::function<void()>& run) {
  run();
  cudaGraph_t graph;
  cudaGraphExec_t replayed;
  KVASIR_CUDA(cudaStreamBeginCapture(gpu.context.stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < count; ++i) run();
  KVASIR_CUDA(cudaStreamEndCapture(gpu.context.stream, &graph));
  KVASIR_CUDA(cudaGraphInstantiate(&replayed, graph, 0));
  Timing timing = measure_on_gpu(gpu.context.stream, std::max(gpu.options.repetitions, 9), 1, [&] {
    KVASIR_CUDA(cudaGraphLaunch(replayed, gpu.context.stream));
  });
  cudaGraphExecDestroy(replayed);
  cudaGraphDestroy(graph);
  for (double* seconds : {&timing.median_seconds, &timing.min_seconds, &timing.max_seconds})
    *seconds /= count;
  return timing;
}

void decode_attention(const Gpu& gpu, double copy) {
  const struct {
    const char* name;
    int q_heads, kv_heads, head_dim;
    Lengths lengths;
  } cases[] = {{"32/8 d128, 128K", 32, 8, 128, {131072}},
               {"32/8 d128, 8 of 128K", 32, 8, 128, Lengths(8, 131072)},
               {"32/8 d128, 128K and 7 of 1K to 16K",
                32,
                8,
                128,
                {131072, 1024, 2048, 4096, 6144, 8192, 12288, 16384}},
               {"32/8 d128, 1K", 32, 8, 128, {1024}},
               {"32/8 d64, 128K", 32, 8, 64, {131072}}};
  for (const auto& each : cases) {
    gpu.say(fmt::format("decode attention, {}", each.name));
    GpuAttentionCase ours(gpu.context, each.q_heads, each.kv_heads, each.head_dim, each.lengths, 1);
    const Timing timing = measure_as_graph(gpu, 20, [&] { ours.run(); });
    const double rate = ours.kv_bytes() / timing.median_seconds;
    gpu.report.lines.push_back(
        {fmt::format("attention {}", each.name),
         timing,
         {{"GB/s", rate / 1e9}, {"copy GB/s", copy / 1e9}, {"of copy", rate / copy}}});
  }
}

void decode(const Gpu& gpu) {
  const double copy = copy_bandwidth(int64_t{4} << 30);
  gpu.report.lines.push_back({"copy, 4 GiB", {}, {{"GB/s", copy / 1e9}}});
  decode_attention(gpu, copy);
  const Lengths lengths = lengths_or(gpu.options, {1024, 131072});
  const int64_t longest = *std::ranges::max_element(lengths);
  gpu.say("loading the model");
  ModelBench model(gpu.pool, model_config(gpu.options), gpu.device, model_source(gpu.options),
                   longest + 128, 8192);
  model.prefill(longest);
  for (const int64_t length : lengths) {
    gpu.say(fmt::format("model decode at {} tokens", length));
    constexpr int64_t kSteps = 64;
    const Timing timing = measure(gpu.options.repetitions, [&] { model.decode(length, kSteps); });
    const double step = timing.median_seconds / kSteps;
    const auto bytes = static_cast<double>(model.decode_weight_bytes() +
                                           model.kv_bytes_per_token() * (length + kSteps / 2));
    gpu.report.lines.push_back({fmt::format("model at {}", length),
                                timing,
                                {{"tokens/s", 1 / step},
                                 {"GB/s", bytes / step / 1e9},
                                 {"copy GB/s", copy / 1e9},
                                 {"of bytes bound", bytes / step / copy}}});
  }
  gpu.note_clocks("after decode");
}

void prefill(const Gpu& gpu) {
  const Lengths lengths = lengths_or(gpu.options, {8192, 32768, 131072});
  const int64_t longest = *std::ranges::max_element(lengths);
  const formats::ModelConfig config = model_config(gpu.options);
  const auto q_heads = static_cast<int>(config.num_q_heads);
  const auto kv_heads = static_cast<int>(config.num_kv_heads);
  const auto head_dim = static_cast<int>(config.head_dim);
  std::vector<double> attention_rates;
  for (const int64_t length : lengths) {
    gpu.say(fmt::format("prefill attention, {} tokens", length));
    std::string library;
    const double theirs = libtorch_gpu_attention_rate(q_heads, kv_heads, length, head_dim, library);
    attention_rates.push_back(theirs);
    GpuAttentionCase ours(gpu.context, q_heads, kv_heads, head_dim, {length}, length);
    const Timing timing =
        measure_on_gpu(gpu.context.stream, gpu.options.repetitions, length <= 16384 ? 4 : 1, [&] {
          ours.build();
          ours.run();
        });
    const double rate = ours.flops() / timing.median_seconds;
    gpu.report.lines.push_back(
        {fmt::format("attention {}/{} d{} {}", q_heads, kv_heads, head_dim, length),
         timing,
         {{"TFLOP/s", rate / 1e12},
          {fmt::format("libtorch ({}) TFLOP/s", library), theirs / 1e12},
          {"x libtorch", theirs > 0 ? rate / theirs : 0}}});
  }
  if (longest >= 32768) {
    gpu.say("attention plans");
    std::vector<PlanShape> plans;
    for (const int32_t row_tile : {64, 128}) {
      plans.push_back({PlanKind::kSlashRuns, 0.1, row_tile});
      plans.push_back({PlanKind::kSlashRuns, 0.03, row_tile});
    }
    plans.push_back({PlanKind::kSlashRandom, 0.1, 64});
    plans.push_back({PlanKind::kColumns, 0.03, 128});
    plans.push_back({PlanKind::kBlocks, 0.1, 128});
    plans.push_back({PlanKind::kTriangle, 0, 128});
    for (Line& line : time_attention_plans(gpu.context, q_heads, kv_heads, head_dim, longest, plans,
                                           gpu.options.repetitions))
      gpu.report.lines.push_back(std::move(line));
  }
  // The product of the feed-forward's first matrices on one chunk.
  constexpr int64_t kChunk = 8192;
  const double gemm =
      libtorch_gpu_gemm_rate(kChunk, 2 * config.intermediate_size, config.hidden_size);
  gpu.report.lines.push_back({"libtorch GEMM", {}, {{"TFLOP/s", gemm / 1e12}}});
  gpu.say("loading the model");
  ModelBench model(gpu.pool, config, gpu.device, model_source(gpu.options), longest, kChunk);
  for (size_t i = 0; i < lengths.size(); ++i) {
    gpu.say(fmt::format("model prefill, {} tokens", lengths[i]));
    const Timing timing = measure(gpu.options.repetitions, [&] { model.prefill(lengths[i]); });
    const double bound = gemm > 0 ? model.gemm_flops(lengths[i]) / gemm +
                                        model.attention_flops(lengths[i]) / attention_rates[i]
                                  : 0;
    gpu.report.lines.push_back(
        {fmt::format("model {}", lengths[i]),
         timing,
         {{"tokens/s", static_cast<double>(lengths[i]) / timing.median_seconds},
          {"TFLOP/s", model.prefill_flops(lengths[i]) / timing.median_seconds / 1e12},
          {"bound s", bound},
          {"of bound", bound / timing.median_seconds}}});
  }
  gpu.note_clocks("after prefill");
}

void load(const Gpu& gpu) {
  const double rate = host_to_device_rate(int64_t{1} << 30);
  gpu.report.lines.push_back({"pinned host to device", {}, {{"GB/s", rate / 1e9}}});
  const formats::ModelConfig config = model_config(gpu.options);
  const auto bytes = static_cast<double>(engine::gpu_weight_bytes(config));
  const Timing timing = measure(gpu.options.repetitions, [&] {
    models::FileWeights source(formats::WeightFiles::open(gpu.options.model).value());
    models::load_cuda_weights(gpu.pool, config, source, {.dtype = DType::kBF16});
  });
  gpu.report.lines.push_back({"load the weights",
                              timing,
                              {{"GB/s", bytes / timing.median_seconds / 1e9},
                               {"of host to device", bytes / timing.median_seconds / rate}}});
}

}  // namespace

Report run_gpu_bench(const BenchOptions& options, const cuda::Device& device, ThreadPool& pool,
                     std::ostream& progress) {
  Report report{fmt::format("{} on {}", options.what, device.name), {}};
  report.device = device.name;
  Gpu gpu{options, device, pool, progress, report, {}};
  gpu.context.multiprocessors = device.multiprocessors;
  gpu.context.compute_capability = device.compute_capability;
  KVASIR_CUDA(cudaStreamCreateWithFlags(&gpu.context.stream, cudaStreamNonBlocking));
  gpu.note_clocks("before");
  if (options.what == "prefill")
    prefill(gpu);
  else if (options.what == "decode")
    decode(gpu);
  else if (options.what == "load")
    load(gpu);
  else
    throw Error(ErrorCode::kInvalidArgument,
                "expected prefill, decode or load on a GPU, found \"" + options.what + "\"",
                "kvasir bench");
  cudaStreamDestroy(gpu.context.stream);
  return report;
}

}  // namespace kvasir::bench
