#include "cli/environment.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "base/utf8.h"

namespace kvasir::cli {
namespace {

// The one thing a signal handler can reach.
std::atomic<Interrupts*> signal_target{nullptr};

void on_signal(int signal) {
  const int saved = errno;
  if (Interrupts* target = signal_target.load()) target->notify(signal);
  errno = saved;
}

void handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(signal, &action, nullptr);
}

}  // namespace

void DescriptorOutput::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor_, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd ready{descriptor_, POLLOUT, 0};
      ::poll(&ready, 1, -1);
      continue;
    }
    throw Error(ErrorCode::kIo, fmt::format("writing failed: {}", std::strerror(errno)), name_);
  }
}

Interrupts::Interrupts(bool on_terminal)
    : remark_(on_terminal ? "\r\x1b[Kkvasir: interrupted\n" : "kvasir: interrupted\n") {
  if (::pipe2(pipe_, O_CLOEXEC | O_NONBLOCK) != 0)
    throw Error(ErrorCode::kIo, fmt::format("pipe: {}", std::strerror(errno)), "signals");
}

Interrupts::~Interrupts() {
  ::close(pipe_[0]);
  ::close(pipe_[1]);
}

void Interrupts::notify(int signal) {
  if (signal != SIGINT) last_fatal_ = signal;
  const int count = ++count_;
  const Mode mode = mode_;
  if (mode == Mode::kExit || (mode == Mode::kCancel && count > 1)) {
    [[maybe_unused]] const ssize_t said = ::write(STDERR_FILENO, remark_.data(), remark_.size());
    ::_exit(128 + signal);
  }
  // A full pipe is readable already.
  [[maybe_unused]] const ssize_t woken = ::write(pipe_[1], "!", 1);
}

int Interrupts::exit_status() const {
  const int fatal = last_fatal_;
  return 128 + (fatal != 0 ? fatal : SIGINT);
}

void Interrupts::clear() {
  char dropped[64];
  while (::read(pipe_[0], dropped, sizeof dropped) > 0) {
  }
  count_ = 0;
}

SignalGuard::SignalGuard(Interrupts& interrupts) {
  signal_target = &interrupts;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) handle(signal, on_signal);
  handle(SIGPIPE, SIG_IGN);
}

SignalGuard::~SignalGuard() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) handle(signal, SIG_DFL);
  signal_target = nullptr;
}

LineReader::Status LineReader::next(std::string& line, const Interrupts& interrupts) {
  while (true) {
    if (interrupts.pending()) {
      buffered_.clear();
      return Status::kInterrupted;
    }
    if (const size_t end = buffered_.find('\n'); end != std::string::npos) {
      line = buffered_.substr(0, end);
      buffered_.erase(0, end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return Status::kLine;
    }
    if (ended_) {
      if (buffered_.empty()) return Status::kEnd;
      line = std::move(buffered_);
      buffered_.clear();
      return Status::kLine;
    }
    pollfd waiting[2] = {{descriptor_, POLLIN, 0}, {interrupts.descriptor(), POLLIN, 0}};
    if (::poll(waiting, 2, -1) < 0) {
      if (errno == EINTR) continue;
      throw Error(ErrorCode::kIo, fmt::format("poll: {}", std::strerror(errno)), "stdin");
    }
    if (waiting[0].revents == 0) continue;
    char piece[4096];
    const ssize_t got = ::read(descriptor_, piece, sizeof piece);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0)
      throw Error(ErrorCode::kIo, fmt::format("reading failed: {}", std::strerror(errno)), "stdin");
    if (got == 0) ended_ = true;
    buffered_.append(piece, static_cast<size_t>(got));
  }
}

double Environment::seconds() const {
  if (now) return now();
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

ProgressOptions Environment::progress_options() const {
  return {.write = [this](std::string_view text) { say(text); },
          .terminal = err_terminal,
          .width = width,
          .now = now};
}

void Environment::note(std::string_view text) const {
  say(fmt::format("kvasir: note: {}\n", text));
}

void Environment::complain(std::string text) const {
  constexpr size_t kLongest = 1000;
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  while (const auto place = invalid_utf8_at(text)) text[*place] = '?';
  for (char& letter : text)
    if (const auto byte = static_cast<unsigned char>(letter); byte < 0x20 || byte == 0x7f)
      letter = ' ';
  say(fmt::format("kvasir: error: {}\n", text));
}

void Environment::say(std::string_view text) const {
  try {
    err->write(text);
  } catch (const Error&) {
    // Nobody reads our remarks; the results still count.
  }
}

}  // namespace kvasir::cli
