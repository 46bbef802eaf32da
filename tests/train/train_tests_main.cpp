// gtest's main, but for static destructors: see src/cli/bench_main.cpp.

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  at::set_num_threads(1);  // the models are so small that handing out work would be most of it
  testing::InitGoogleTest(&argc, argv);
  const int code = RUN_ALL_TESTS();
  std::fflush(nullptr);
  std::_Exit(code);
}
