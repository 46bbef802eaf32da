#include "data/loader.h"

#include <algorithm>
#include <chrono>

namespace kvasir::data {

Loader::Loader(const BatchSource& source, const Share& share, int64_t first_step,
               const LoaderOptions& options)
    : source_(source),
      share_(share),
      slots_(static_cast<size_t>(std::max<int64_t>(1, options.ahead))),
      step_(first_step) {
  check_share(source.recipe(), share).value();
  for (int i = 0; i < std::max(1, options.threads); ++i) threads_.emplace_back([this] { work(); });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  room_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

std::optional<Loader::Work> Loader::claim() {
  if (step_ >= source_.recipe().steps()) return {};
  Work work{plan_step(source_.recipe(), step_), pass_};
  ++claimed_;
  if (++pass_ == share_.passes(work.plan)) {
    pass_ = 0;
    ++step_;
  }
  return work;
}

void Loader::work() {
  const auto size = static_cast<int64_t>(slots_.size());
  std::unique_lock lock(mutex_);
  while (true) {
    room_.wait(lock, [&] { return is_stopping_ || claimed_ < taken_ + size; });
    if (is_stopping_) return;
    Slot& slot = slots_[static_cast<size_t>(claimed_ % size)];
    const std::optional<Work> work = claim();
    if (!work) return;
    lock.unlock();
    std::optional<Batch> batch;
    std::optional<Error> error;
    try {
      const Share::Range range = share_.pass(work->plan, work->pass);
      batch = source_.batch(work->plan, range.first, range.count);
    } catch (const Error& failed) {
      error = failed;
    } catch (const std::exception& failed) {
      error = Error(ErrorCode::kResourceExhausted, failed.what(), "preparing a batch");
    }
    lock.lock();
    slot = {std::move(batch), std::move(error), true};
    ready_.notify_all();
  }
}

std::optional<Batch> Loader::next() {
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  Slot& slot = slots_[static_cast<size_t>(taken_ % static_cast<int64_t>(slots_.size()))];
  const auto is_at_end = [&] { return taken_ == claimed_ && step_ >= source_.recipe().steps(); };
  ready_.wait(lock, [&] { return slot.is_ready || is_at_end(); });
  waited_seconds_ +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (!slot.is_ready) return {};
  if (slot.error) throw *slot.error;  // stays in its slot
  Batch batch = std::move(*slot.batch);
  slot = {};
  ++taken_;
  room_.notify_all();
  return batch;
}

}  // namespace kvasir::data
