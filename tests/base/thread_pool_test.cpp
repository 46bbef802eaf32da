#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace kvasir {
namespace {

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t tasks : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> hits(tasks);
      pool.parallel(tasks, [&](int64_t task, int worker) {
        EXPECT_GE(worker, 0);
        EXPECT_LT(worker, threads);
        hits[task].fetch_add(1);
      });
      for (int64_t task = 0; task < tasks; ++task) EXPECT_EQ(hits[task].load(), 1) << task;
    }
  }
}

TEST(ThreadPool, ManyShortLoops) {
  ThreadPool pool(3);
  int64_t sum = 0;
  for (int round = 0; round < 20000; ++round) {
    std::atomic<int64_t> partial{0};
    pool.parallel(4, [&](int64_t task, int) { partial.fetch_add(task); });
    sum += partial.load();
  }
  EXPECT_EQ(sum, 20000 * 6);
}

TEST(ThreadPool, NestedLoopsRunInline) {
  ThreadPool pool(2);
  std::atomic<int> hits{0};
  pool.parallel(4,
                [&](int64_t, int) { pool.parallel(3, [&](int64_t, int) { hits.fetch_add(1); }); });
  EXPECT_EQ(hits.load(), 12);
}

}  // namespace
}  // namespace kvasir
