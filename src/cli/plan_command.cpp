#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/method.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "engine/trace_prefill.h"
#include "report/plan_drawing.h"

namespace kvasir::cli {
namespace {

constexpr int kThumbnail = 96, kLargest = 512;  // pixels of a map

// Collects what trace_prefill() says into maps, counts and means.
class Collector {
 public:
  Collector(const PlanOptions& options, const ModelInfo& info, int64_t tokens) : options_(options) {
    plan_.model = info.path;
    plan_.document = options.document == "-" ? "standard input" : options.document;
    plan_.method = method_text(options.prefill);
    plan_.tokens = tokens;
    for (int layer = 0; layer < info.layers; ++layer) {
      plan_.layers.push_back({"dense", {}});
      for (int head = 0; head < info.q_heads; ++head) {
        const int pixels = !options.layer ? kThumbnail : is_chosen(layer, head) ? kLargest : 1;
        plan_.layers.back().heads.push_back(
            {.map = report::CoverageMap(tokens, pixels), .recall = 0, .least_recall = 1});
      }
    }
    samples_.assign(static_cast<size_t>(info.layers * info.q_heads), 0);
  }

  engine::TraceOptions trace_options() {
    return {.prefill = options_.prefill,
            .on_rows = [this](int layer, const auto& rows) { add(layer, rows); },
            .on_recall = [this](int layer, int head,
                                double recall) { add_recall(layer, head, recall); }};
  }

  report::ModelPlan take() {
    for (size_t layer = 0; layer < plan_.layers.size(); ++layer) {
      auto& heads = plan_.layers[layer].heads;
      for (size_t head = 0; head < heads.size(); ++head) {
        const int64_t count = samples_[layer * heads.size() + head];
        heads[head].recall /= static_cast<double>(count);
        plan_.sampled_queries = count;
      }
    }
    return std::move(plan_);
  }

 private:
  bool is_chosen(int layer, int head) const {
    return options_.layer == layer && options_.head == head;
  }
  report::HeadPlan& at(int layer, int head) {
    return plan_.layers[static_cast<size_t>(layer)].heads[static_cast<size_t>(head)];
  }

  void add(int layer, const kernels::PlannedRows& rows) {
    report::HeadPlan& head = at(layer, rows.head);
    head.size += plan_size(rows);
    if (!options_.layer || is_chosen(layer, rows.head)) head.map.add(rows);
    if (rows.plan) plan_.layers[static_cast<size_t>(layer)].method = options_.prefill.name;
  }

  void add_recall(int layer, int head, double recall) {
    report::HeadPlan& shown = at(layer, head);
    shown.recall += recall;
    shown.least_recall = std::min(shown.least_recall, recall);
    ++samples_[static_cast<size_t>(layer) * plan_.layers[static_cast<size_t>(layer)].heads.size() +
               static_cast<size_t>(head)];
  }

  const PlanOptions& options_;
  report::ModelPlan plan_;
  std::vector<int64_t> samples_;  // [layers, heads]
};

std::string drawn(const report::ModelPlan& plan, const PlanOptions& options) {
  const std::string extension = std::filesystem::path(options.out).extension();
  if (options.layer) {
    const auto layer = static_cast<size_t>(*options.layer);
    const auto head = static_cast<size_t>(*options.head);
    if (extension == ".png") return png_file(head_image(plan, layer, head));
    if (extension == ".svg") return svg_file(draw_head(plan, layer, head));
    return head_page(plan, layer, head).html();
  }
  if (extension == ".png") return png_file(model_image(plan));
  if (extension == ".svg") return svg_file(draw_model(plan));
  return plan_page(plan).html();
}

void check_head(const PlanOptions& options, const ModelInfo& info) {
  const auto check = [](const char* name, std::optional<int> value, int64_t end) {
    if (value && *value >= end)
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("expected less than {}, found {}", end, *value), name);
  };
  check("--layer", options.layer, info.layers);
  check("--head", options.head, info.q_heads);
}

}  // namespace

int plan_command(const Options& options, Environment& environment) {
  const PlanOptions& flags = options.plan;
  check_methods({.prefill = flags.prefill});
  const std::string text = read_text(flags.document, environment);
  const std::vector<TokenId> tokens =
      environment.open_codec(options.engine.model.string()).value()->encode(text, true);
  EngineOptions engine = options.engine;
  engine.device = "cpu";
  engine.max_sequences = 1;
  engine.context = static_cast<int64_t>(tokens.size());
  const ModelInfo info = inspect(engine);
  check_head(flags, info);

  Collector collector(flags, info, engine.context);
  engine::TraceOptions trace = collector.trace_options();
  Progress loading(environment.progress_options(), "loading", Progress::Unit::kBytes);
  Progress reading(environment.progress_options(), "reading");
  engine.on_load_progress = [&loading](int64_t done, int64_t total) {
    loading.update(done, total);
    if (done == total) loading.clear();
  };
  trace.on_progress = [&reading](int64_t done, int64_t total) { reading.update(done, total); };
  trace.cancelled = [&environment] { return environment.interrupts->pending(); };
  environment.interrupts->set_mode(Interrupts::Mode::kCancel);
  trace_prefill(engine, tokens, trace);
  reading.clear();
  const report::ModelPlan plan = collector.take();
  write_file(flags.out, drawn(plan, flags)).value();
  environment.out->write(terminal_table(layer_table(plan)));
  environment.note(fmt::format("wrote {}", flags.out));
  return kExitOk;
}

}  // namespace kvasir::cli
