#include "bench/bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "base/file.h"
#include "bench/attention_case.h"
#include "bench/attention_plans.h"
#include "bench/gpu_bench.h"
#include "bench/harness.h"
#include "bench/model_bench.h"
#include "bench/train_bench.h"
#include "bench/yardsticks.h"
#include "engine/load_model.h"
#include "text/tokenizer.h"

namespace kvasir::bench {
namespace {

std::string model_label(const BenchOptions& options) {
  return options.shape.empty() ? options.model.filename().string() : options.shape + " (random)";
}

void attention_prefill(const BenchOptions& options, ThreadPool& pool, Report& report,
                       std::ostream& progress) {
  for (const int head_dim : {64, 128}) {
    for (const int64_t length : lengths_or(options, {8192, 16384, 32768, 65536})) {
      progress << fmt::format("attention, head_dim {}, {} tokens\n", head_dim, length);
      constexpr int kQueryHeads = 6, kKvHeads = 2;
      AttentionCase ours(pool, kQueryHeads, kKvHeads, head_dim, length, length);
      const Timing timing = measure(options.repetitions, [&] { ours.run(); });
      const double rate = ours.flops() / timing.median_seconds;
      const double theirs = libtorch_attention_rate(kQueryHeads, length, head_dim);
      report.lines.push_back({fmt::format("attention d{} {}", head_dim, length),
                              timing,
                              {{"GFLOP/s", rate / 1e9},
                               {"libtorch GFLOP/s", theirs / 1e9},
                               {"x libtorch", rate / theirs}}});
    }
  }
}

// The last rows of a sequence, as many as a prefill chunk has, beside dense attention of the same
// shape: how long they take, and how many pairs a second they score.
void planned_attention(const BenchOptions& options, ThreadPool& pool, Report& report,
                       std::ostream& progress) {
  constexpr int64_t kRows = 1024;
  for (const auto& [q_heads, kv_heads, head_dim] : {std::tuple{6, 2, 64}, std::tuple{32, 8, 128}})
    for (const int64_t length : lengths_or(options, {16384, 65536})) {
      if (length < 2 * kRows) continue;
      progress << fmt::format("planned attention, {}/{} heads of {}, {} tokens\n", q_heads,
                              kv_heads, head_dim, length);
      AttentionCase ours(pool, q_heads, kv_heads, head_dim, length, kRows);
      for (const double density : {0.03, 0.1})
        for (const CpuPlanKind kind : kCpuPlanKinds) {
          const CpuPlan plan(kind, density, q_heads, q_heads / kv_heads, length, kRows);
          const kernels::AttentionPlan view = plan.view();
          const auto dense = static_cast<double>(ours.run());
          const double share = static_cast<double>(ours.run(&view)) / dense;
          const TimingBeside found =
              measure_beside(options.repetitions, [&] { ours.run(&view); }, [&] { ours.run(); }, 5);
          report.lines.push_back(
              {fmt::format("{} {}% {}/{} d{} {}", name_of(kind), std::lround(100 * density),
                           q_heads, kv_heads, head_dim, length),
               found.timing,
               {{"density", share},
                {"of dense time", 1 / found.ratio},
                {"of dense rate", found.ratio * share}}});
        }
    }
}

Report prefill(const BenchOptions& options, ThreadPool& pool, std::ostream& progress) {
  Report report{"prefill, " + model_label(options), {}};
  attention_prefill(options, pool, report, progress);
  planned_attention(options, pool, report, progress);
  const std::vector<int64_t> lengths =
      lengths_or(options, options.shape.empty() ? std::vector<int64_t>{512, 4096, 16384}
                                                : std::vector<int64_t>{512, 2048, 4096});
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  progress << "loading " << model_label(options) << "\n";
  ModelBench model(pool, model_config(options), std::nullopt, model_source(options), longest, 1024);
  for (const int64_t length : lengths) {
    progress << fmt::format("model prefill, {} tokens\n", length);
    const Timing timing = measure(options.repetitions, [&] { model.prefill(length); });
    const double rate = model.prefill_flops(length) / timing.median_seconds;
    const double gemm = libtorch_gemm_rate(2048, 2048, 2048);
    report.lines.push_back({fmt::format("model {}", length),
                            timing,
                            {{"tokens/s", static_cast<double>(length) / timing.median_seconds},
                             {"GFLOP/s", rate / 1e9},
                             {"libtorch GEMM GFLOP/s", gemm / 1e9},
                             {"of libtorch GEMM", rate / gemm}}});
  }
  return report;
}

// What reads `bytes`, and beside each run the reading of a buffer (what fits the cache is compared
// with the cache).
Line beside_reading(const std::string& name, const std::string& share, int repetitions,
                    double bytes, ReadBuffer& buffer, int reads,
                    const std::function<void()>& body) {
  const TimingBeside found = measure_beside(repetitions, body, [&] {
    for (int i = 0; i < reads; ++i) buffer.read();
  });
  const double buffer_bytes = static_cast<double>(buffer.bytes()) * reads;
  return {name,
          found.timing,
          {{"GB/s", bytes / found.timing.median_seconds / 1e9},
           {"read GB/s", buffer_bytes / found.yardstick_seconds / 1e9},
           {share, found.ratio * bytes / buffer_bytes}}};
}

Report decode(const BenchOptions& options, ThreadPool& pool, std::ostream& progress) {
  Report report{"decode, " + model_label(options), {}};
  {
    ReadBuffer memory(pool, int64_t{1} << 30);
    const Timing timing = measure(options.repetitions, [&] { memory.read(); });
    report.lines.push_back(
        {"memory read, 1 GiB", timing, {{"GB/s", 0x1p30 / timing.median_seconds / 1e9}}});
  }
  for (const auto& [q_heads, kv_heads, head_dim] :
       {std::tuple{6, 2, 64}, std::tuple{32, 8, 64}, std::tuple{32, 8, 128}}) {
    progress << fmt::format("attention, {}/{} heads of {}, 65536 tokens\n", q_heads, kv_heads,
                            head_dim);
    AttentionCase ours(pool, q_heads, kv_heads, head_dim, 65536, 1);
    // What fits the cache is compared with the cache.
    ReadBuffer buffer(pool, static_cast<int64_t>(ours.kv_bytes()));
    report.lines.push_back(beside_reading(
        fmt::format("attention {}/{} d{} 64K", q_heads, kv_heads, head_dim), "of read",
        std::max(options.repetitions, 15), ours.kv_bytes(), buffer, 1, [&] { ours.run(); }));
  }
  const std::vector<int64_t> lengths = lengths_or(options, {128, 4096});
  const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  progress << "loading " << model_label(options) << "\n";
  ModelBench model(pool, model_config(options), std::nullopt, model_source(options), longest + 64,
                   1024);
  ReadBuffer buffer(pool, model.decode_weight_bytes());
  model.prefill(longest);
  for (const int64_t length : lengths) {
    progress << fmt::format("model decode at {} tokens\n", length);
    constexpr int64_t kSteps = 32;
    const double bytes =
        static_cast<double>(model.decode_weight_bytes() + model.kv_bytes_per_token() * length);
    Line line =
        beside_reading(fmt::format("model at {}", length), "of bytes bound", options.repetitions,
                       bytes * kSteps, buffer, 4, [&] { model.decode(length, kSteps); });
    line.figures.insert(line.figures.begin(), {"tokens/s", kSteps / line.timing.median_seconds});
    report.lines.push_back(std::move(line));
  }
  return report;
}

Report tokenizer(const BenchOptions& options, ThreadPool& pool, std::ostream& progress) {
  Report report{"tokenizer, " + model_label(options), {}};
  const text::Tokenizer tokenizer = text::Tokenizer::load(options.model / "tokenizer.json").value();
  if (options.document.empty())
    throw Error(ErrorCode::kInvalidArgument, "expected a text to tokenize", "--document");
  std::string text = read_file(options.document).value();
  while (text.size() < (size_t{4} << 20)) text += text;
  progress << fmt::format("{:.1f} MB of {}\n", static_cast<double>(text.size()) / 1e6,
                          options.document.string());
  size_t tokens = 0;
  for (const int threads : {1, pool.size()}) {
    ThreadPool own(threads);
    const Timing timing =
        measure(options.repetitions, [&] { tokens = tokenizer.encode(text, own).size(); });
    report.lines.push_back(
        {fmt::format("encode, {} thread{}", threads, threads == 1 ? "" : "s"),
         timing,
         {{"MB/s", static_cast<double>(text.size()) / timing.median_seconds / 1e6},
          {"tokens/s", static_cast<double>(tokens) / timing.median_seconds}}});
    if (pool.size() == 1) break;
  }
  return report;
}

Report load(const BenchOptions& options, ThreadPool& pool, std::ostream& progress) {
  Report report{"load, " + model_label(options), {}};
  progress << "loading " << options.model.string() << " from page cache\n";
  int64_t bytes = 0;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(options.model))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  const Timing reading = measure(options.repetitions, [&] {
    bytes = 0;
    for (const auto& file : files) bytes += static_cast<int64_t>(read_file(file).value().size());
  });
  const formats::ModelConfig config = model_config(options);
  const Timing loading = measure(options.repetitions, [&] {
    const Isa isa = best_isa();
    models::load_cpu_weights(
        {.pool = pool}, config, model_source(options),
        {.dtype = multiplies_bf16(isa) ? DType::kBF16 : DType::kF32, .isa = isa});
  });
  const double size = static_cast<double>(bytes);
  report.lines.push_back(
      {"read the files", reading, {{"GB/s", size / reading.median_seconds / 1e9}}});
  report.lines.push_back({"load the weights",
                          loading,
                          {{"GB/s", size / loading.median_seconds / 1e9},
                           {"x reading time", loading.median_seconds / reading.median_seconds}}});
  return report;
}

}  // namespace

int run_bench(const BenchOptions& options, std::ostream& out, std::ostream& progress) {
  const int threads = options.threads > 0 ? options.threads : usable_cpus();
  ThreadPool pool(threads);
  set_libtorch_threads(threads);
  std::string note;
  const std::optional<cuda::Device> gpu =
      options.what == "tokenizer" ? std::nullopt : engine::resolve_device(options.device, note);
  if (!note.empty()) progress << note << "\n";
  Report report;
  if (options.what == "train")
    report = train(options, gpu, progress);
  else if (gpu)
    report = run_gpu_bench(options, *gpu, pool, progress);
  else if (options.what == "prefill")
    report = prefill(options, pool, progress);
  else if (options.what == "decode")
    report = decode(options, pool, progress);
  else if (options.what == "tokenizer")
    report = tokenizer(options, pool, progress);
  else if (options.what == "load")
    report = load(options, pool, progress);
  else
    throw Error(
        ErrorCode::kInvalidArgument,
        "expected prefill, decode, train, tokenizer or load, found \"" + options.what + "\"",
        "kvasir bench");
  const std::string json = to_json(report, threads);
  if (options.json)
    out << json << "\n";
  else
    print(report, out);
  if (!options.record.empty()) write_file(options.record, json + "\n").value();
  return 0;
}

}  // namespace kvasir::bench
