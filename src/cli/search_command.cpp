#include <fmt/format.h>

#include <algorithm>

#include "base/method.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "prefill/triangle_layers.h"
#include "prefill/xattention/thresholds_file.h"
#include "report/table.h"
#include "search/auto.h"
#include "search/minference.h"
#include "search/trianglemix.h"
#include "search/xattention.h"

namespace kvasir::cli {
namespace {

using prefill::minference::HeadSearchOptions;
using prefill::minference::Objective;

// The document's first tokens, as many as are asked for and the model reads.
std::vector<TokenId> read_tokens(const Options& options, Environment& environment) {
  const std::string text = read_text(options.search.document, environment);
  std::vector<TokenId> tokens =
      environment.open_codec(options.engine.model.string()).value()->encode(text, true);
  const int64_t found = std::ssize(tokens);
  const int64_t wanted = options.search.length.value_or(found);
  if (wanted > found)
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("expected at most the document's {} tokens, found {}",
                            with_thousands(found), with_thousands(wanted)),
                "--length");
  EngineOptions engine = options.engine;
  engine.device = "cpu";
  engine.context = 0;
  const int64_t most = options.search.length ? wanted : inspect(engine).max_positions;
  tokens.resize(static_cast<size_t>(std::min(wanted, most)));
  return tokens;
}

// A search's progress and its interruption.
search::Watch watch(Progress& progress, Environment& environment) {
  environment.interrupts->set_mode(Interrupts::Mode::kCancel);
  return {.on_progress = [&progress](int64_t done, int64_t total) { progress.update(done, total); },
          .cancelled = [&environment] { return environment.interrupts->pending(); }};
}

HeadSearchOptions head_options(const Options& options) {
  const SearchFlags& flags = options.search;
  HeadSearchOptions heads{.candidates = prefill::minference::default_candidates(),
                          .density = flags.density.value_or(0),
                          .recall = flags.recall.value_or(0)};
  for (const Objective each : {Objective::kOutput, Objective::kRecall, Objective::kCount})
    if (objective_name(each) == flags.objective.value_or("output")) heads.objective = each;
  if (options.engine.chunk > 0) heads.chunk = options.engine.chunk;
  if (flags.vertical_slash_only)
    std::erase_if(heads.candidates, [](const formats::HeadPattern& each) {
      return each.kind != formats::HeadPatternKind::kVerticalSlash;
    });
  return heads;
}

int search_minference_command(const Options& options, Environment& environment) {
  const std::vector<TokenId> tokens = read_tokens(options, environment);
  Progress progress(environment.progress_options(), "searching", Progress::Unit::kShare);
  const std::vector<search::LayerSummary> layers =
      search::search_minference(options.engine, tokens,
                                {.heads = head_options(options),
                                 .output = options.search.output,
                                 .watch = watch(progress, environment)});
  progress.clear();
  const std::string file = options.search.output / "sparse_attention_config.json";
  if (options.json) {
    Json list = Json::array();
    for (const search::LayerSummary& layer : layers)
      list.push_back({{"layer", layer.layer},
                      {"vertical_and_slash", layer.vertical_slash},
                      {"stream_llm", layer.a_shape},
                      {"block_sparse", layer.block_sparse},
                      {"density", layer.density},
                      {"recall", layer.recall},
                      {"output_error", layer.error}});
    environment.out->write(json_line(
        {{"method", "minference"}, {"config", file}, {"tokens", tokens.size()}, {"layers", list}}));
    return kExitOk;
  }
  report::Table table{.columns = {{"layer"},
                                  {"vertical_and_slash"},
                                  {"stream_llm"},
                                  {"block_sparse"},
                                  {"density"},
                                  {"recall"},
                                  {"output error"}}};
  for (const search::LayerSummary& layer : layers)
    table.rows.push_back({report::count(layer.layer), report::count(layer.vertical_slash),
                          report::count(layer.a_shape), report::count(layer.block_sparse),
                          report::percent(layer.density, 1), report::number(layer.recall, 3),
                          report::number(layer.error, 3)});
  environment.out->write(terminal_table(table));
  environment.note(fmt::format("wrote {}; use --prefill minference:config={}", file, file));
  return kExitOk;
}

Json auto_json(const prefill::AutoDevice& device, const std::string& file) {
  Json list = Json::array();
  for (const prefill::AutoMeasurement& each : device.measurements)
    list.push_back({{"length", each.length},
                    {"method", method_text(each.method)},
                    {"seconds", each.seconds},
                    {"kl", each.kl},
                    {"questions", each.questions},
                    {"same", each.same}});
  return {{"method", "auto"}, {"file", file}, {"device", device.device}, {"measurements", list}};
}

report::Table auto_table(const prefill::AutoDevice& device) {
  report::Table table{.columns = {{"tokens"},
                                  {"method", false},
                                  {"first s"},
                                  {"times dense"},
                                  {"same answers"},
                                  {"KL"},
                                  {"auto takes", false}}};
  double dense = 0;
  for (const prefill::AutoMeasurement& each : device.measurements) {
    if (each.method.name == "dense") dense = each.seconds;
    const prefill::AutoChoice choice = choose_prefill(device, each.length, prefill::kAutoBound);
    const bool is_taken = method_text(choice.method) == method_text(each.method);
    table.rows.push_back({report::count(each.length), method_text(each.method),
                          report::number(each.seconds, 3), report::number(dense / each.seconds, 2),
                          fmt::format("{} of {}", each.same, each.questions),
                          fmt::format("{:.1e}", each.kl), is_taken ? "yes" : ""});
  }
  return table;
}

std::filesystem::path output_of(const Options& options, const char* name) {
  return options.search.output.empty() ? options.engine.model / name : options.search.output;
}

// How a method reads what was written.
std::string use_of(const Options& options, const std::string& method, const std::string& option,
                   const std::filesystem::path& file) {
  return fmt::format(
      "wrote {}; use --prefill {}{}", file.string(), method,
      options.search.output.empty() ? "" : fmt::format(":{}={}", option, file.string()));
}

int search_trianglemix_command(const Options& options, Environment& environment) {
  const SearchFlags& flags = options.search;
  const std::filesystem::path file = output_of(options, prefill::kTriangleFile);
  const std::string text = read_text(flags.document, environment);
  search::TriangleMixSearch search{.document = text, .tasks = flags.tasks, .output = file};
  search.documents = flags.documents.value_or(search.documents);
  search.length = flags.length.value_or(search.length);
  search.bound = flags.bound.value_or(search.bound);
  Progress progress(environment.progress_options(), "probing", Progress::Unit::kShare);
  search.watch = watch(progress, environment);
  const search::TriangleMixResult result = search_trianglemix(options.engine, search);
  progress.clear();
  if (options.json) {
    environment.out->write(json_line({{"method", "trianglemix"},
                                      {"file", file.string()},
                                      {"layers", result.layers},
                                      {"scores", result.scores},
                                      {"kl", result.kl},
                                      {"prompts", result.prompts},
                                      {"answer_tokens", result.tokens}}));
    return kExitOk;
  }
  report::Table table{.columns = {{"layer"}, {"KL alone"}, {"tri-shape", false}}};
  for (size_t layer = 0; layer < result.scores.size(); ++layer) {
    const auto number = static_cast<int32_t>(layer);
    const bool is_chosen = std::ranges::find(result.layers, number) != result.layers.end();
    table.rows.push_back({report::count(number), fmt::format("{:.1e}", result.scores[layer]),
                          is_chosen ? "yes" : ""});
  }
  environment.out->write(terminal_table(table));
  environment.note(fmt::format("{} answer tokens of {} prompts; KL with all chosen layers {:.1e}",
                               result.tokens, result.prompts, result.kl));
  environment.note(use_of(options, "trianglemix", "config", file));
  return kExitOk;
}

int search_xattention_command(const Options& options, Environment& environment) {
  const std::filesystem::path file = output_of(options, prefill::xattention::kThresholdsFile);
  const std::vector<TokenId> tokens = read_tokens(options, environment);
  search::XAttentionSearch search{.output = file};
  search.heads.recall = options.search.recall.value_or(search.heads.recall);
  search.heads.stride = options.search.stride == "16" ? 16 : 8;
  if (options.engine.chunk > 0) search.heads.chunk = options.engine.chunk;
  Progress progress(environment.progress_options(), "searching", Progress::Unit::kShare);
  search.watch = watch(progress, environment);
  const std::vector<search::ThresholdSummary> layers =
      search_xattention(options.engine, tokens, search);
  progress.clear();
  Json list = Json::array();
  report::Table table{
      .columns = {{"layer"}, {"threshold"}, {"density"}, {"recall"}, {"output error"}}};
  for (const search::ThresholdSummary& layer : layers) {
    list.push_back({{"layer", layer.layer},
                    {"threshold", layer.threshold},
                    {"density", layer.density},
                    {"recall", layer.recall},
                    {"output_error", layer.error}});
    table.rows.push_back({report::count(layer.layer), report::number(layer.threshold, 3),
                          report::percent(layer.density, 1), report::number(layer.recall, 3),
                          report::number(layer.error, 3)});
  }
  if (options.json) {
    environment.out->write(json_line({{"method", "xattention"},
                                      {"file", file.string()},
                                      {"tokens", tokens.size()},
                                      {"layers", list}}));
    return kExitOk;
  }
  environment.out->write(terminal_table(table));
  environment.note(use_of(options, "xattention", "thresholds", file));
  return kExitOk;
}

int search_auto_command(const Options& options, Environment& environment) {
  const SearchFlags& flags = options.search;
  for (const MethodChoice& method : flags.methods) check_methods({.prefill = method});
  const std::filesystem::path file = output_of(options, prefill::kAutoFile);
  const std::string text = read_text(flags.document, environment);
  Progress progress(environment.progress_options(), "measuring", Progress::Unit::kShare);
  const prefill::AutoDevice device =
      search::search_auto(options.engine, {.document = text,
                                           .methods = flags.methods,
                                           .tasks = flags.tasks,
                                           .lengths = flags.lengths,
                                           .documents = flags.documents.value_or(2),
                                           .output = file,
                                           .watch = watch(progress, environment)});
  progress.clear();
  if (options.json) {
    environment.out->write(json_line(auto_json(device, file.string())));
    return kExitOk;
  }
  environment.out->write(terminal_table(auto_table(device)));
  environment.note(use_of(options, "auto", "file", file));
  return kExitOk;
}

}  // namespace

int search_command(const Options& options, Environment& environment) {
  const std::string& what = options.search.what;
  if (what == "auto") return search_auto_command(options, environment);
  if (what == "trianglemix") return search_trianglemix_command(options, environment);
  if (what == "xattention") return search_xattention_command(options, environment);
  return search_minference_command(options, environment);
}

}  // namespace kvasir::cli
