// Processes that work together: all are run, one that fails ends the others, interrupts are sent
// on.

#include "cli/processes.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "harness.h"

namespace kvasir::cli {
namespace {

using Clock = std::chrono::steady_clock;

int run_scripts(const std::vector<std::string>& scripts, const Interrupts& interrupts) {
  std::vector<std::vector<std::string>> arguments;
  for (const std::string& script : scripts) arguments.push_back({"-c", script});
  return run_processes("/bin/sh", arguments, interrupts);
}

TEST(Processes, AllAreRun) {
  const std::filesystem::path folder(temporary_folder());
  const Interrupts interrupts;
  const auto touch = [&](const std::string& name) {
    return "echo x > " + (folder / name).string();
  };
  EXPECT_EQ(run_scripts({touch("one"), touch("two"), touch("three")}, interrupts), 0);
  for (const char* name : {"one", "two", "three"})
    EXPECT_TRUE(std::filesystem::exists(folder / name)) << name;
}

TEST(Processes, OneThatFailsEndsTheOthers) {
  const Interrupts interrupts;
  const auto start = Clock::now();
  EXPECT_EQ(run_scripts({"exec sleep 60", "exit 3"}, interrupts), 3);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(20));
  EXPECT_EQ(run_processes("/nowhere/program", {{"x"}}, interrupts), 127);
  EXPECT_EQ(run_scripts({"kill -9 $$"}, interrupts), 128 + SIGKILL);
}

TEST(Processes, InterruptsAreSentOn) {
  const std::filesystem::path mark = std::filesystem::path(temporary_folder()) / "trapped";
  Interrupts interrupts;
  interrupts.set_mode(Interrupts::Mode::kCancel);
  interrupts.notify(SIGTERM);
  // Each tidies up in its own time, and says that it was interrupted.
  const std::string script =
      "trap 'echo x >> " + mark.string() + "; exit 143' TERM; while true; do sleep 0.05; done";
  EXPECT_EQ(run_scripts({"sleep 0.2; " + script, script}, interrupts), 143);
}

// Also where this process is ended with no chance to tell.
TEST(Processes, EndWithThisProcess) {
  const std::filesystem::path mark = std::filesystem::path(temporary_folder()) / "process";
  std::filesystem::remove(mark);
  const pid_t launcher = ::fork();
  if (launcher == 0) {
    const Interrupts interrupts;
    run_scripts({"echo $$ > " + mark.string() + ".new; mv " + mark.string() + ".new " +
                 mark.string() + "; exec sleep 60"},
                interrupts);
    ::_exit(0);
  }
  pid_t process = 0;
  for (int i = 0; i < 2000 && process == 0; ++i) {
    std::ifstream(mark) >> process;
    ::usleep(5000);
  }
  ASSERT_GT(process, 0);
  ::kill(launcher, SIGKILL);
  ::waitpid(launcher, nullptr, 0);
  bool is_there = true;
  for (int i = 0; i < 2000 && is_there; ++i) {
    // One that nobody has waited for yet is there as a zombie.
    std::ifstream status("/proc/" + std::to_string(process) + "/stat");
    std::string number, name, state;
    is_there = static_cast<bool>(status >> number >> name >> state) && state != "Z";
    ::usleep(5000);
  }
  EXPECT_FALSE(is_there);
}

}  // namespace
}  // namespace kvasir::cli
