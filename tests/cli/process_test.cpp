// The program as a process: real streams, signals, terminals, exit codes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "cli/harness.h"

namespace kvasir::cli {
namespace {

using Words = std::vector<std::string>;

Outcome run_process(const Words& arguments) { return Process::start(arguments).finish(); }

int64_t lines_of(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(Process, ReadsADocumentFromAPipe) {
  Process process = Process::start({"run", "-m", "fake", "-d", "-", "-a", "Who?"});
  const std::string document = "It was a dark night.\n";
  ASSERT_EQ(::write(process.in, document.data(), document.size()),
            static_cast<ssize_t>(document.size()));
  ::close(std::exchange(process.in, -1));
  const Outcome outcome = process.finish();
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "29 tokens about Who?\n");
}

TEST(Process, ExitCodesAreTheDocumentedOnes) {
  EXPECT_EQ(run_process({"--version"}).code, 0);
  EXPECT_EQ(run_process({}).code, 2);
  EXPECT_EQ(run_process({"run", "--nope"}).code, 2);
  const std::pair<const char*, int> codes[] = {
      {"internal", 1},    {"invalid_argument", 2},   {"not_found", 3}, {"malformed", 4},
      {"unsupported", 5}, {"resource_exhausted", 6}, {"io", 7}};
  for (const auto& [name, code] : codes) {
    const Outcome outcome =
        run_process({"run", "-m", std::string("fake,load_error=") + name, "-a", "x"});
    EXPECT_EQ(outcome.code, code);
    EXPECT_EQ(lines_of(outcome.err), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST(Process, InterruptStopsTheAnswerAndKeepsWhatCame) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    Process process =
        Process::start({"run", "-m", "fake,endless,slow_ms=2", "-a", "Who?", "-n", "90000"});
    ASSERT_TRUE(process.wait_for_out("7 tokens about"));
    ::kill(process.pid, signal);
    const Outcome outcome = process.finish();
    EXPECT_EQ(outcome.code, 128 + signal) << outcome.err;
    EXPECT_TRUE(outcome.out.ends_with("\n"));
    EXPECT_NE(outcome.err.find("stopped"), std::string::npos) << "the closing table";
    EXPECT_TRUE(outcome.err.ends_with("kvasir: interrupted\n"));
  }
}

TEST(Process, InterruptedJsonIsWhole) {
  Process process = Process::start({"run", "-m", "fake,endless,announce,slow_ms=2", "-a", "a", "-a",
                                    "b", "--as", "requests", "--json", "-n", "90000"});
  ASSERT_TRUE(process.wait_for_err("answering\nanswering\n"));
  ::kill(process.pid, SIGINT);
  const Outcome outcome = process.finish();
  EXPECT_EQ(outcome.code, 130);
  EXPECT_EQ(lines_of(outcome.out), 2);
  EXPECT_NE(outcome.out.find("\"finish_reason\":\"cancelled\""), std::string::npos);
}

TEST(Process, ASecondInterruptEndsAtOnce) {
  // One token of this answer takes a minute, so the first interrupt is not acted upon.
  Process process = Process::start({"run", "-m", "fake,announce,slow_ms=60000", "-a", "Who?"});
  ASSERT_TRUE(process.wait_for_err("answering\n"));
  ::kill(process.pid, SIGINT);
  ::kill(process.pid, SIGTERM);  // two of one kind may arrive as one
  const Outcome outcome = process.finish();
  EXPECT_TRUE(outcome.code == 128 + SIGINT || outcome.code == 128 + SIGTERM) << outcome.code;
  EXPECT_EQ(outcome.err, "answering\nkvasir: interrupted\n");
}

TEST(Process, ABrokenPipeIsAnErrorOfOneLine) {
  Process process =
      Process::start({"run", "-m", "fake,endless,slow_ms=1", "-a", "Who?", "-n", "90000"});
  ASSERT_TRUE(process.wait_for_out("7 tokens"));
  ::close(std::exchange(process.out, -1));
  const Outcome outcome = process.finish();
  EXPECT_EQ(outcome.code, 7);
  EXPECT_EQ(outcome.err, "kvasir: error: stdout: writing failed: Broken pipe\n");
}

TEST(Process, AFullDiskIsAnErrorOfOneLine) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  for (const Words& arguments : {Words{"run", "-m", "fake", "-a", "x"}, Words{"info", "-m", "fake"},
                                 Words{"methods"}, Words{"--help"}, Words{"completion", "bash"}}) {
    const Outcome outcome = Process::start(arguments, KVASIR_FAKE, full).finish();
    EXPECT_EQ(outcome.code, 7) << arguments[0];
    EXPECT_EQ(outcome.err, "kvasir: error: stdout: writing failed: No space left on device\n");
  }
  ::close(full);
}

// The program on a terminal of 80 columns, as a person sees it.
class Terminal {
 public:
  explicit Terminal(const Words& arguments) {
    winsize size = {.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
    pid_ = ::forkpty(&master_, nullptr, nullptr, &size);
    if (pid_ != 0) return;
    ::unsetenv("COLUMNS");
    Words words{KVASIR_FAKE};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::execv(KVASIR_FAKE, argv.data());
    ::_exit(127);
  }
  void type(const std::string& text) {
    EXPECT_EQ(::write(master_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // Reads until `text` has appeared `count` times.
  bool wait_for(const std::string& text, int count = 1) {
    while (true) {
      int found = 0;
      for (size_t at = 0; (at = seen_.find(text, at)) != std::string::npos; ++at) ++found;
      if (found >= count) return true;
      char piece[1024];
      const ssize_t got = ::read(master_, piece, sizeof piece);
      if (got <= 0) return false;
      seen_.append(piece, static_cast<size_t>(got));
    }
  }
  int finish() {
    wait_for("\x01 never printed");
    int status = 0;
    ::waitpid(pid_, &status, 0);
    ::close(master_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  const std::string& seen() const { return seen_; }

 private:
  int master_ = -1;
  pid_t pid_ = -1;
  std::string seen_;
};

TEST(Process, ADialogueOnATerminal) {
  Terminal terminal({"run", "-m", "fake,endless,slow_ms=2", "-n", "90000"});
  ASSERT_TRUE(terminal.wait_for("> ")) << terminal.seen();
  terminal.type("Who?\n");
  ASSERT_TRUE(terminal.wait_for("7 tokens about")) << terminal.seen();
  terminal.type("\x03");  // Ctrl-C
  ASSERT_TRUE(terminal.wait_for("[stopped; prompt 7 (0 cached)")) << terminal.seen();
  ASSERT_TRUE(terminal.wait_for("> ", 2));
  terminal.type("not finished\x03");
  ASSERT_TRUE(terminal.wait_for("> ", 3)) << "Ctrl-C drops the line and asks again";
  terminal.type("\x04");  // Ctrl-D
  EXPECT_EQ(terminal.finish(), 0);
  EXPECT_NE(terminal.seen().find("prefill dense, compress plain, retrieve dense"),
            std::string::npos);
}

TEST(Process, NoLineOnATerminalIsWiderThanIt) {
  const std::string book = temporary_file("wide.txt", std::string(20000, 'x'));
  Terminal terminal({"run", "-m", "fake,prefill_slow_ms=2", "-d", book, "-a", "Who?"});
  EXPECT_EQ(terminal.finish(), 0);
  EXPECT_NE(terminal.seen().find("\rreading  █"), std::string::npos) << terminal.seen();
  size_t columns = 0;
  for (size_t i = 0; i < terminal.seen().size(); ++i) {
    const auto byte = static_cast<unsigned char>(terminal.seen()[i]);
    if (byte == '\r' || byte == '\n')
      columns = 0;
    else if (terminal.seen().compare(i, 3, "\x1b[K") == 0)
      i += 2;
    else
      columns += (byte & 0xc0) != 0x80;
    ASSERT_LE(columns, 80u) << terminal.seen().substr(i > 100 ? i - 100 : 0, 120);
  }
}

TEST(Process, InterruptWhileLoadingSaysSo) {
  // Documents are read before the model is: standard input that never ends holds it there.
  Process process = Process::start({"run", "-m", "fake", "-d", "-", "-a", "x"});
  const std::string much(300000, 'x');  // more than a pipe holds: some of it has been read
  ASSERT_EQ(::write(process.in, much.data(), much.size()), static_cast<ssize_t>(much.size()));
  ::kill(process.pid, SIGINT);
  const int in = std::exchange(process.in, -1);
  const Outcome outcome = process.finish();
  ::close(in);
  EXPECT_EQ(outcome.code, 130);
  EXPECT_EQ(outcome.err, "kvasir: interrupted\n");
}

}  // namespace
}  // namespace kvasir::cli
