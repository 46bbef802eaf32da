#pragma once
// Threads that prepare batches ahead of training, in order.

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "data/batch_source.h"

namespace kvasir::data {

struct LoaderOptions {
  int threads = 1;    // at least 1
  int64_t ahead = 4;  // batches that wait to be taken, at most
};

// Owns its threads. One thread takes the batches. What fails in a thread is thrown by next(), in
// its place in the order; the loader then gives no more.
class Loader {
 public:
  // The passes of one process from `first_step` on. `source` must outlive it. Throws
  // Error{kInvalidArgument} where steps cannot be shared out.
  Loader(const BatchSource& source, const Share& share, int64_t first_step,
         const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The next pass; nothing behind the last. Throws Error.
  std::optional<Batch> next();
  // Seconds that next() has waited for batches in all: what the device lost.
  double waited_seconds() const { return waited_seconds_; }

 private:
  struct Slot {
    std::optional<Batch> batch;
    std::optional<Error> error;
    bool is_ready = false;
  };
  // A pass of the run, by its number.
  struct Work {
    StepPlan plan;
    int64_t pass = 0;
  };
  std::optional<Work> claim();  // with mutex_
  void work();

  const BatchSource& source_;
  const Share share_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;  // guards all below
  std::condition_variable room_, ready_;
  std::vector<Slot> slots_;  // ring: pass n is in slot n % size
  int64_t claimed_ = 0;      // passes given to threads
  int64_t taken_ = 0;        // passes that next() has returned
  int64_t step_, pass_ = 0;  // of the next pass to claim
  bool is_stopping_ = false;
  double waited_seconds_ = 0;  // of the taking thread alone
};

}  // namespace kvasir::data
