#pragma once
// A flag that asks running work to stop. Set from any thread; polled by kernels between tiles and
// by the executor between layers. Once set it stays set.

#include <atomic>

namespace kvasir {

class CancelToken {
 public:
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace kvasir
