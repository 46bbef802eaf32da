#pragma once
// A fixed pool for data-parallel loops. The calling thread takes part as worker 0, so a pool of one
// thread runs everything inline. Workers spin briefly between loops (a decode step has dozens of
// loops of a few microseconds) and then sleep.

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace kvasir {

// The number of CPUs this process may run on.
int usable_cpus();

class ThreadPool {
 public:
  // `threads` >= 1, the caller included.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return threads_; }

  // Calls body(task, worker) once for every task in [0, tasks), tasks handed out in ascending
  // order, 0 <= worker < size(). Returns when all are done. `body` must not throw. One loop at a
  // time: the pool belongs to one calling thread. A call from inside a body runs inline as the same
  // worker 0.. and must therefore not use per-worker scratch.
  template <class Body>
  void parallel(int64_t tasks, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        tasks,
        [](void* context, int64_t task, int worker) {
          (*static_cast<Plain*>(context))(task, worker);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Function = void (*)(void* context, int64_t task, int worker);
  void run(int64_t tasks, Function function, void* context);
  void work(int worker);
  void drain(int worker);

  const int threads_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  int64_t tasks_ = 0;
  alignas(64) std::atomic<int64_t> next_task_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int> running_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace kvasir
