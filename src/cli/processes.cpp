#include "cli/processes.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>

#include "kvasir/error.h"

namespace kvasir::cli {
namespace {

using Clock = std::chrono::steady_clock;

// What the others get to say why they fail, too, and to end by themselves.
constexpr std::chrono::seconds kGrace{2};
constexpr int kPollMs = 50;

class Processes {
 public:
  explicit Processes(std::filesystem::path program) : program_(std::move(program)) {}
  ~Processes() {
    send(SIGKILL);
    for (const pid_t process : running_) ::waitpid(process, nullptr, 0);
  }
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  void start(const std::vector<std::string>& arguments) {
    std::vector<char*> argv{const_cast<char*>(program_.c_str())};
    for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
    argv.push_back(nullptr);
    const pid_t parent = ::getpid(), process = ::fork();
    if (process < 0)
      throw Error(ErrorCode::kIo, std::string("cannot start a process: ") + std::strerror(errno),
                  program_.string());
    if (process > 0) {
      running_.push_back(process);
      return;
    }
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(128 + SIGKILL);  // it ended before it could be asked to tell
    ::execv(program_.c_str(), argv.data());
    ::_exit(127);
  }

  bool any() const { return !running_.empty(); }
  void send(int signal) const {
    for (const pid_t process : running_) ::kill(process, signal);
  }

  // What one that has ended since the last call ended with.
  std::optional<int> ended() {
    for (size_t i = 0; i < running_.size(); ++i) {
      int status = 0;
      if (::waitpid(running_[i], &status, WNOHANG) != running_[i]) continue;
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return {};
  }

 private:
  std::filesystem::path program_;
  std::vector<pid_t> running_;
};

}  // namespace

int run_processes(const std::filesystem::path& program,
                  const std::vector<std::vector<std::string>>& arguments,
                  const Interrupts& interrupts) {
  Processes processes(program);
  for (const auto& each : arguments) processes.start(each);
  int code = 0;
  bool is_sent_on = false;
  std::optional<Clock::time_point> end;
  while (processes.any()) {
    if (interrupts.pending() && !is_sent_on) {
      processes.send(interrupts.exit_status() - 128);
      is_sent_on = true;
    }
    if (const auto status = processes.ended()) {
      if (*status != 0 && code == 0) code = *status;
      // Interrupted ones end in their own time, with a checkpoint.
      if (*status != 0 && !is_sent_on && !end) end = Clock::now() + kGrace;
      continue;
    }
    if (end && Clock::now() >= *end) processes.send(SIGKILL);
    ::poll(nullptr, 0, kPollMs);
  }
  return code;
}

}  // namespace kvasir::cli
