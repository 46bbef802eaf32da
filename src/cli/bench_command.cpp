#include <fmt/format.h>

#include <ostream>
#include <streambuf>

#include "base/file.h"
#include "bench/bench.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "eval/perplexity.h"
#include "eval/run_report.h"
#include "eval/runner.h"

namespace kvasir::cli {
namespace {

// An ostream onto an Output. Whole pieces go through as they come.
class OutputBuffer final : public std::streambuf {
 public:
  explicit OutputBuffer(Output& output) : output_(output) {}

 protected:
  int_type overflow(int_type letter) override {
    if (traits_type::eq_int_type(letter, traits_type::eof())) return 0;
    const char byte = traits_type::to_char_type(letter);
    output_.write({&byte, 1});
    return letter;
  }
  std::streamsize xsputn(const char* text, std::streamsize size) override {
    output_.write({text, static_cast<size_t>(size)});
    return size;
  }

 private:
  Output& output_;
};

int speed(const Options& options, Environment& environment) {
  const BenchFlags& flags = options.bench;
  const bench::BenchOptions bench{.what = flags.what,
                                  .model = options.engine.model,
                                  .shape = flags.shape,
                                  .device = options.engine.device,
                                  .lengths = flags.lengths,
                                  .document = flags.document,
                                  .threads = options.engine.threads,
                                  .repetitions = flags.repetitions,
                                  .json = options.json,
                                  .record = flags.record};
  OutputBuffer out_buffer(*environment.out), err_buffer(*environment.err);
  std::ostream out(&out_buffer), err(&err_buffer);
  out.exceptions(std::ios::badbit);  // a failed write arrives as the Error that it is
  return bench::run_bench(bench, out, err);
}

eval::RunOptions run_options(const Options& options) {
  const BenchFlags& flags = options.bench;
  eval::RunOptions run = flags.accuracy;
  run.suite = flags.what;
  run.engine = options.engine;
  run.lengths = flags.lengths;
  run.documents = flags.document;
  if (flags.questions > 0) {
    const int64_t turns = run.turns > 0 ? run.turns : eval::suite_defaults(run.suite).turns;
    run.sessions = (flags.questions + turns - 1) / turns;
  }
  return run;
}

int write(const Options& options, const std::string& json, const std::string& tables,
          Environment& environment) {
  if (!options.bench.record.empty()) write_file(options.bench.record, json + "\n").value();
  environment.out->write(options.json ? json + "\n" : tables);
  return kExitOk;
}

int accuracy(const Options& options, Environment& environment) {
  const eval::RunHooks hooks{.note = [&](const std::string& text) { environment.note(text); },
                             .cancelled = [&] { return environment.interrupts->pending(); },
                             .progress = environment.progress_options()};
  eval::RunSetup setup = eval::prepare(run_options(options), hooks);
  const std::unique_ptr<Engine> engine = load_engine(setup.engine, environment);
  environment.interrupts->set_mode(Interrupts::Mode::kCancel);
  if (setup.options.suite == eval::kPerplexity) {
    const auto cells = eval::run_perplexity(setup, *engine, hooks);
    return write(options, eval::perplexity_json(cells),
                 eval::perplexity_table(cells, static_cast<size_t>(environment.width)),
                 environment);
  }
  const eval::RunResult result = eval::run(setup, *engine, hooks);
  if (!result.is_finished) {
    environment.note(fmt::format("{} questions are answered; go on with --resume --out {}",
                                 result.outcomes.size(), result.folder.string()));
    throw Error(ErrorCode::kCancelled, "interrupted", "kvasir bench");
  }
  const eval::Summary summary = eval::summarize(result.outcomes);
  return write(options, eval::summary_json(summary),
               eval::summary_tables(summary, static_cast<size_t>(environment.width)), environment);
}

}  // namespace

int bench_command(const Options& options, Environment& environment) {
  const std::string names = std::string("|") + kBenchAccuracy + "|";
  return names.find("|" + options.bench.what + "|") == std::string::npos
             ? speed(options, environment)
             : accuracy(options, environment);
}

}  // namespace kvasir::cli
