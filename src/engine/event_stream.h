#pragma once
// The events of one request on their way from the loop to the caller.

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

#include "kvasir/request.h"

namespace kvasir::engine {

// In order. Thread-safe; one producer (the loop) and one consumer.
class EventStream {
 public:
  Event next();                     // blocks; must not be called after the stream has ended
  std::optional<Event> try_next();  // empty: nothing there now
  // True: an event is there or the stream has ended.
  bool wait_for(std::chrono::milliseconds timeout);
  bool ended() const;  // the last event has been taken

  // For the loop. Nothing may follow an event pushed as the last.
  void push(Event event, bool last);
  bool closed() const;  // the last event has been pushed

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  bool closed_ = false;
};

}  // namespace kvasir::engine
