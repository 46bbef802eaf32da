#include "engine/event_stream.h"

#include "base/check.h"

namespace kvasir {

const char* finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kError:
      return "error";
  }
  return "unknown";
}

}  // namespace kvasir

namespace kvasir::engine {

Event EventStream::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !events_.empty() || closed_; });
  KVASIR_CHECK(!events_.empty(), "the stream has ended");
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

std::optional<Event> EventStream::try_next() {
  std::lock_guard lock(mutex_);
  if (events_.empty()) return std::nullopt;
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

bool EventStream::wait_for(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [this] { return !events_.empty() || closed_; });
}

bool EventStream::ended() const {
  std::lock_guard lock(mutex_);
  return closed_ && events_.empty();
}

bool EventStream::closed() const {
  std::lock_guard lock(mutex_);
  return closed_;
}

void EventStream::push(Event event, bool last) {
  {
    std::lock_guard lock(mutex_);
    KVASIR_DCHECK(!closed_);
    events_.push_back(std::move(event));
    closed_ = last;
  }
  changed_.notify_one();
}

}  // namespace kvasir::engine
