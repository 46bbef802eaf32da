#include "program/program.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace kvasir::program {
namespace {

using Clock = std::chrono::steady_clock;

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

[[noreturn]] void become(const std::vector<std::string>& arguments, const std::string& out,
                         const std::string& err) {
  std::vector<char*> argv{const_cast<char*>(KVASIR_PROGRAM)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int in = ::open("/dev/null", O_RDONLY);
  const int to_out = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int to_err = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (in < 0 || to_out < 0 || to_err < 0 || ::chdir(KVASIR_SOURCE_DIR) != 0) ::_exit(126);
  ::dup2(in, STDIN_FILENO);
  ::dup2(to_out, STDOUT_FILENO);
  ::dup2(to_err, STDERR_FILENO);
  ::execv(KVASIR_PROGRAM, argv.data());
  ::_exit(127);
}

}  // namespace

Outcome run(const std::vector<std::string>& arguments, const Interrupt* interrupt) {
  std::string folder = (std::filesystem::temp_directory_path() / "kvasir-program-XXXXXX").string();
  if (!::mkdtemp(folder.data())) throw std::runtime_error("cannot make " + folder);
  const std::string out = folder + "/out", err = folder + "/err";
  const auto start = Clock::now();
  const pid_t child = ::fork();
  if (child < 0) throw std::runtime_error("cannot fork");
  if (child == 0) become(arguments, out, err);

  Clock::time_point signalled{};
  bool is_signalled = false;
  int status = 0;
  rusage usage{};
  while (::wait4(child, &status, WNOHANG, &usage) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (!interrupt || is_signalled || content(err).find(interrupt->text) == std::string::npos)
      continue;
    ::kill(child, interrupt->signal);
    signalled = Clock::now();
    is_signalled = true;
  }
  Outcome outcome{.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                  .out = content(out),
                  .err = content(err),
                  .seconds = since(start),
                  .peak_bytes = int64_t{usage.ru_maxrss} * 1024};
  if (is_signalled && interrupt->seconds) *interrupt->seconds = since(signalled);
  std::filesystem::remove_all(folder);
  return outcome;
}

}  // namespace kvasir::program
