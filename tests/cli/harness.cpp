#include "cli/harness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/commands.h"
#include "cli/fake_engine.h"
#include "cli/system.h"

namespace kvasir::cli {
namespace {

class StringOutput final : public Output {
 public:
  void write(std::string_view piece) override {
    if (fail_after >= 0 && static_cast<int64_t>(text.size() + piece.size()) > fail_after)
      throw Error(ErrorCode::kIo, "writing failed: No space left on device", "stdout");
    text += piece;
    if (on_write) on_write();
  }
  std::string text;
  int64_t fail_after = -1;
  std::function<void()> on_write;
};

}  // namespace

Outcome run(const std::vector<std::string>& arguments, const Setting& setting) {
  fake::reset_log();
  if (setting.before) setting.before();
  StringOutput out, err;
  Interrupts interrupts;
  if (setting.with_interrupts) setting.with_interrupts(interrupts);
  out.fail_after = setting.fail_out_after;
  if (setting.on_out) out.on_write = [&] { setting.on_out(out.text, interrupts); };
  if (setting.on_err) err.on_write = [&] { setting.on_err(err.text, interrupts); };
  int pipe_ends[2];
  if (::pipe(pipe_ends) != 0) std::abort();
  if (::write(pipe_ends[1], setting.input.data(), setting.input.size()) < 0) std::abort();
  ::close(pipe_ends[1]);

  Environment environment;
  environment.out = &out;
  environment.err = &err;
  environment.in = pipe_ends[0];
  environment.in_terminal = setting.in_terminal;
  environment.err_terminal = setting.err_terminal;
  environment.width = setting.width;
  environment.interrupts = &interrupts;
  double seconds = 0;
  environment.now = [&seconds] { return seconds += 0.01; };
  connect_rooms(environment);
  const auto read_file_document = environment.read_document;
  environment.read_document = [&](const std::string& path) -> Result<std::string> {
    return path == "-" ? Result<std::string>(setting.input) : read_file_document(path);
  };
  Outcome outcome;
  outcome.code = run_program(arguments, environment);
  ::close(pipe_ends[0]);
  outcome.out = out.text;
  outcome.err = err.text;
  return outcome;
}

std::string temporary_folder() {
  static const std::string folder = [] {
    std::string name = (std::filesystem::temp_directory_path() / "kvasir_cli_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    static struct Remove {
      std::string name;
      ~Remove() { std::filesystem::remove_all(name); }
    } remove{name};
    return name;
  }();
  return folder;
}

std::string temporary_file(const std::string& name, const std::string& content) {
  const std::string path = temporary_folder() + "/" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string file_content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

Process Process::start(const std::vector<std::string>& arguments, const std::string& program,
                       int out_to) {
  int in_pipe[2], out_pipe[2], err_pipe[2];
  for (auto* ends : {in_pipe, out_pipe, err_pipe})
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  Process process;
  process.pid = ::fork();
  if (process.pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(in_pipe[0], 0);
    ::dup2(out_to >= 0 ? out_to : out_pipe[1], 1);
    ::dup2(err_pipe[1], 2);
    std::vector<std::string> words{program};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  ::close(in_pipe[0]);
  ::close(out_pipe[1]);
  ::close(err_pipe[1]);
  process.in = in_pipe[1];
  process.out = out_pipe[0];
  process.err = err_pipe[0];
  return process;
}

namespace {

bool wait_for(int descriptor, std::string& seen, const std::string& text) {
  char piece[4096];
  while (seen.find(text) == std::string::npos) {
    const ssize_t got = ::read(descriptor, piece, sizeof piece);
    if (got <= 0) return false;
    seen.append(piece, static_cast<size_t>(got));
  }
  return true;
}

// Both ends, so that neither pipe fills up while the other is waited for.
void read_rest(int out, std::string& out_seen, int err, std::string& err_seen) {
  pollfd waiting[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  std::string* seen[2] = {&out_seen, &err_seen};
  char piece[4096];
  while (waiting[0].fd >= 0 || waiting[1].fd >= 0) {
    ::poll(waiting, 2, -1);
    for (int i = 0; i < 2; ++i) {
      if (waiting[i].fd < 0 || waiting[i].revents == 0) continue;
      const ssize_t got = ::read(waiting[i].fd, piece, sizeof piece);
      if (got > 0) seen[i]->append(piece, static_cast<size_t>(got));
      if (got <= 0) waiting[i].fd = -1;
    }
  }
}

}  // namespace

bool Process::wait_for_out(const std::string& text) { return wait_for(out, out_seen, text); }
bool Process::wait_for_err(const std::string& text) { return wait_for(err, err_seen, text); }

Outcome Process::finish() {
  if (in >= 0) ::close(in);
  read_rest(out, out_seen, err, err_seen);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (out >= 0) ::close(out);
  ::close(err);
  return {.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
          .out = out_seen,
          .err = err_seen};
}

}  // namespace kvasir::cli
