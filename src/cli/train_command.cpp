#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "train/run.h"

namespace kvasir::cli {

int train_run_command(const Options& options, Environment& environment) {
  const TrainFlags& flags = options.train;
  // The first interrupt ends the run behind its step, with a checkpoint.
  environment.interrupts->set_mode(Interrupts::Mode::kCancel);
  const std::filesystem::path checkpoint =
      train::run_recipe({.recipe = flags.recipe,
                         .corpus = flags.corpus,
                         .output = flags.output,
                         .resume = flags.resume,
                         .device = options.engine.device,
                         .threads = options.engine.threads,
                         .processes = flags.processes,
                         .rank = flags.rank,
                         .meeting = flags.meeting,
                         .say = [&](const std::string& line) { environment.say(line + "\n"); },
                         .stop = [&] { return environment.interrupts->pending(); }});
  environment.out->write(options.json ? json_line({{"checkpoint", checkpoint.string()}})
                                      : checkpoint.string() + "\n");
  return environment.interrupts->pending() ? environment.interrupts->exit_status() : kExitOk;
}

int train_command(const Options& options, Environment& environment) {
  if (options.train.what == "run") return train_run_command(options, environment);
  if (options.train.what == "tokenizer") return train_tokenizer_command(options, environment);
  if (options.train.what == "data") return train_data_command(options, environment);
  return train_manifest_command(options, environment);
}

}  // namespace kvasir::cli
