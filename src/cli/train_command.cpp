#include <unistd.h>

#include <filesystem>

#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "cli/json_lines.h"
#include "cli/processes.h"
#include "train/run.h"

namespace kvasir::cli {
namespace {

// Where the processes of one host meet: a file in a folder of its own, gone at the end.
class MeetingPlace {
 public:
  MeetingPlace() {
    std::string name = std::filesystem::temp_directory_path() / "kvasir-meeting-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr)
      throw Error(ErrorCode::kIo, "cannot make a folder for processes to meet in", name);
    folder_ = name;
  }
  ~MeetingPlace() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  MeetingPlace(const MeetingPlace&) = delete;
  MeetingPlace& operator=(const MeetingPlace&) = delete;
  std::string file() const { return folder_ / "store"; }

 private:
  std::filesystem::path folder_;
};

// One process for each GPU of this host (or, with --device cpu, that share its CPUs), each this
// command again with its rank.
int train_on_host(const Options& options, Environment& environment) {
  const TrainFlags& flags = options.train;
  const MeetingPlace place;
  const int threads = options.engine.threads > 0 ? options.engine.threads : usable_cpus();
  std::vector<std::vector<std::string>> all;
  for (int rank = 0; rank < flags.processes; ++rank) {
    std::vector<std::string>& one = all.emplace_back(std::vector<std::string>{
        "train", "run", "--recipe", flags.recipe, "--output", flags.output, "--device",
        options.engine.device, "--threads", std::to_string(std::max(1, threads / flags.processes)),
        "--processes", std::to_string(flags.processes), "--rank", std::to_string(rank), "--meet",
        place.file()});
    if (!flags.corpus.empty()) one.insert(one.end(), {"--corpus", flags.corpus});
    if (flags.resume) one.push_back("--resume");
    if (options.json) one.push_back("--json");
  }
  return run_processes(std::filesystem::read_symlink("/proc/self/exe"), all,
                       *environment.interrupts);
}

}  // namespace

int train_run_command(const Options& options, Environment& environment) {
  const TrainFlags& flags = options.train;
  // The first interrupt ends the run behind its step, with a checkpoint.
  environment.interrupts->set_mode(Interrupts::Mode::kCancel);
  if (flags.processes > 1 && !flags.rank) return train_on_host(options, environment);
  const std::filesystem::path checkpoint =
      train::run_recipe({.recipe = flags.recipe,
                         .corpus = flags.corpus,
                         .output = flags.output,
                         .resume = flags.resume,
                         .device = options.engine.device,
                         .threads = options.engine.threads,
                         .processes = flags.processes,
                         .rank = flags.rank.value_or(0),
                         .meeting = flags.meeting,
                         .say = [&](const std::string& line) { environment.say(line + "\n"); },
                         .stop = [&] { return environment.interrupts->pending(); }});
  if (flags.rank.value_or(0) == 0)
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
