#pragma once
// What a command sees of the world outside: streams, terminal, signals, documents, the clock. The
// program fills it from the operating system (kvasir_main.cpp), tests from memory.

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/result.h"
#include "kvasir/request.h"

namespace kvasir::cli {

// A byte sink. Unbuffered: text is seen as soon as it is written.
class Output {
 public:
  virtual ~Output() = default;
  virtual void write(std::string_view text) = 0;  // throws Error{kIo}
};

// Writes to a file descriptor that it does not own.
class DescriptorOutput : public Output {
 public:
  DescriptorOutput(int descriptor, std::string name)
      : descriptor_(descriptor), name_(std::move(name)) {}
  void write(std::string_view text) override;

 private:
  int descriptor_;
  std::string name_;  // for the error: "stdout"
};

// Requests to stop. notify() may be called from a signal handler; everything else from the thread
// that runs the command. A request is never lost: it stays pending until it is cleared.
class Interrupts {
 public:
  enum class Mode {
    kExit,    // nothing to tidy up (loading): end the process at once
    kCancel,  // the first is pending until the command has tidied up, a second ends the process
    kCount,   // every one is pending until it is cleared (interactive; files being written)
  };
  // `on_terminal`: standard error is one, so the remark that ends the process at once takes the
  // place of a progress bar.
  explicit Interrupts(bool on_terminal = false);
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  void set_mode(Mode mode) { mode_ = mode; }
  // `signal`: SIGINT, SIGTERM or SIGHUP. Async-signal-safe.
  void notify(int signal);
  bool pending() const { return count_ > 0; }
  bool must_end() const { return last_fatal_ != 0; }  // SIGTERM or SIGHUP: also ends a dialogue
  int exit_status() const;                            // 128 + signal
  void clear();
  // Readable while an interrupt is pending, for poll().
  int descriptor() const { return pipe_[0]; }

 private:
  const std::string_view remark_;
  std::atomic<Mode> mode_{Mode::kExit};
  std::atomic<int> count_{0};
  std::atomic<int> last_fatal_{0};
  int pipe_[2] = {-1, -1};
};

// Sends the process's SIGINT, SIGTERM and SIGHUP to `interrupts` and ignores SIGPIPE, while alive.
// One at a time.
class SignalGuard {
 public:
  explicit SignalGuard(Interrupts& interrupts);
  ~SignalGuard();
};

// Lines from a file descriptor, interruptible.
class LineReader {
 public:
  enum class Status { kLine, kEnd, kInterrupted };
  explicit LineReader(int descriptor) : descriptor_(descriptor) {}
  // Waits for a whole line (without its newline). kInterrupted: an interrupt is pending; what was
  // typed so far is dropped.
  Status next(std::string& line, const Interrupts& interrupts);

 private:
  int descriptor_;
  std::string buffered_;
  bool ended_ = false;
};

// Text to ids and back with nothing but tokenizer.json.
class TextCodec {
 public:
  virtual ~TextCodec() = default;
  virtual std::vector<TokenId> encode(std::string_view text, bool add_special) const = 0;
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special) const = 0;
  virtual std::string piece(TokenId id) const = 0;  // as the vocabulary spells it
  virtual int64_t vocab_size() const = 0;
};

struct Environment {
  Output* out = nullptr;  // answers and results only
  Output* err = nullptr;  // progress, notes, tables, errors
  int in = 0;             // descriptor of standard input
  bool in_terminal = false, out_terminal = false, err_terminal = false;
  int width = 80;  // columns
  Interrupts* interrupts = nullptr;
  std::function<double()> now;  // monotonic seconds; null = steady_clock
  // A document's text: a path, or "-" for standard input. Text is UTF-8.
  std::function<Result<std::string>(const std::string& path)> read_document;
  // The tokenizer of a model folder.
  std::function<Result<std::unique_ptr<TextCodec>>(const std::string& folder)> open_codec;

  double seconds() const;  // now(), or the steady clock's
  ProgressOptions progress_options() const;
  void note(std::string_view text) const;  // "kvasir: note: ..." on err
  // "kvasir: error: ..." on err: one line of printable UTF-8, whatever a file or its name put into
  // the text.
  void complain(std::string text) const;
  void say(std::string_view text) const;  // text as it is on err; failures are ignored
};

}  // namespace kvasir::cli
