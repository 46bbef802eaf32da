#include <fmt/format.h>

#include <algorithm>

#include "base/method.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "report/table.h"
#include "search/auto.h"
#include "search/minference.h"

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
    if (objective_name(each) == flags.objective) heads.objective = each;
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
                          report::number(each.kl, 4), is_taken ? "yes" : ""});
  }
  return table;
}

int search_auto_command(const Options& options, Environment& environment) {
  const SearchFlags& flags = options.search;
  for (const MethodChoice& method : flags.methods) check_methods({.prefill = method});
  const std::filesystem::path file =
      flags.output.empty() ? options.engine.model / prefill::kAutoFile : flags.output;
  const std::string text = read_text(flags.document, environment);
  Progress progress(environment.progress_options(), "measuring", Progress::Unit::kShare);
  const prefill::AutoDevice device =
      search::search_auto(options.engine, {.document = text,
                                           .methods = flags.methods,
                                           .tasks = flags.tasks,
                                           .lengths = flags.lengths,
                                           .documents = flags.documents,
                                           .output = file,
                                           .watch = watch(progress, environment)});
  progress.clear();
  if (options.json) {
    environment.out->write(json_line(auto_json(device, file.string())));
    return kExitOk;
  }
  environment.out->write(terminal_table(auto_table(device)));
  const bool is_default = flags.output.empty();
  environment.note(fmt::format("wrote {}; use --prefill auto{}", file.string(),
                               is_default ? "" : ":file=" + file.string()));
  return kExitOk;
}

}  // namespace

int search_command(const Options& options, Environment& environment) {
  if (options.search.what == "auto") return search_auto_command(options, environment);
  return search_minference_command(options, environment);
}

}  // namespace kvasir::cli
