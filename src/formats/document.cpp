#include "formats/document.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/file.h"

extern char** environ;

namespace kvasir::formats {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int operator*() const { return number_; }
  void take(int number) {
    close();
    number_ = number;
  }
  void close() {
    if (number_ >= 0) ::close(std::exchange(number_, -1));
  }

 private:
  int number_;
};

Error system_error(const char* action, int code, const std::string& where) {
  return Error(ErrorCode::kIo,
               std::string("pdftotext: cannot ") + action + ": " + std::strerror(code), where);
}

// The first line that says something.
std::string first_line(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) return "no reason given";
  return text.substr(begin, std::min(text.find('\n', begin), text.size()) - begin);
}

struct Output {
  std::string out, err;
};

// Reads both ends until both are closed.
Result<Output> read_both(int out, int err, const std::string& where) {
  Output output;
  pollfd waiting[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  std::string* texts[2] = {&output.out, &output.err};
  char piece[1 << 16];
  while (waiting[0].fd >= 0 || waiting[1].fd >= 0) {
    if (::poll(waiting, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return system_error("be waited for", errno, where);
    }
    for (int i = 0; i < 2; ++i) {
      if (waiting[i].fd < 0 || waiting[i].revents == 0) continue;
      const ssize_t got = ::read(waiting[i].fd, piece, sizeof piece);
      if (got > 0) texts[i]->append(piece, static_cast<size_t>(got));
      if (got == 0 || (got < 0 && errno != EINTR)) waiting[i].fd = -1;
    }
  }
  return output;
}

// Runs `pdftotext -enc UTF-8 - -` on `input`. No shell, no file name: nothing to misread.
Result<pid_t> start(int input, int out, int err, const std::string& where) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  const char* const words[] = {"pdftotext", "-enc", "UTF-8", "-", "-", nullptr};
  pid_t pid = 0;
  const int code = ::posix_spawnp(&pid, words[0], &actions, &attributes,
                                  const_cast<char* const*>(words), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (code == ENOENT)
    return Error(ErrorCode::kUnsupported,
                 "expected the program pdftotext to read a PDF, found none; install the package "
                 "poppler-utils or give a text file",
                 where);
  if (code != 0) return system_error("be started", code, where);
  return pid;
}

Result<std::string> pdf_text(const std::string& content, const std::string& where) {
  // pdftotext seeks, so its input is a file, which lives in memory.
  const Descriptor input(::memfd_create("kvasir-document", MFD_CLOEXEC));
  if (*input < 0) return system_error("be given the document", errno, where);
  for (size_t done = 0; done < content.size();) {
    const ssize_t put = ::write(*input, content.data() + done, content.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error("be given the document", errno, where);
    done += static_cast<size_t>(put);
  }
  ::lseek(*input, 0, SEEK_SET);

  Descriptor out_read, out_write, err_read, err_write;
  for (auto [read, write] : {std::pair{&out_read, &out_write}, std::pair{&err_read, &err_write}}) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("be connected", errno, where);
    read->take(ends[0]);
    write->take(ends[1]);
  }
  const auto started = start(*input, *out_write, *err_write, where);
  if (!started) return started.error();
  out_write.close();
  err_write.close();
  auto output = read_both(*out_read, *err_read, where);
  int status = 0;
  while (::waitpid(started.value(), &status, 0) < 0 && errno == EINTR) {
  }
  if (!output) return output.error();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return Error(ErrorCode::kMalformed,
                 "expected a PDF that pdftotext reads, found one that it refuses: " +
                     first_line(output.value().err),
                 where);
  std::string text = std::move(output.value().out);
  for (char& letter : text)
    if (letter == '\f') letter = '\n';  // between pages
  if (text.find_first_not_of(" \t\r\n") == std::string::npos)
    return Error(ErrorCode::kMalformed,
                 "expected a PDF with text, found none in it; is it made of scanned pages?", where);
  return text;
}

}  // namespace

Result<std::string> read_document(const std::filesystem::path& path) {
  const bool is_standard_input = path == "-";
  auto content = is_standard_input ? read_standard_input() : read_file(path);
  if (!content || !content.value().starts_with("%PDF-")) return content;
  return pdf_text(content.value(), is_standard_input ? "standard input" : path.string());
}

}  // namespace kvasir::formats
