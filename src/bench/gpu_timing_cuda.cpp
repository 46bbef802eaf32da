#include "bench/gpu_timing_cuda.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "cuda/check.h"

namespace kvasir::bench {

Timing measure_on_gpu(cudaStream_t stream, int repetitions, int batch,
                      const std::function<void()>& body) {
  cudaEvent_t begin, end;
  KVASIR_CUDA(cudaEventCreate(&begin));
  KVASIR_CUDA(cudaEventCreate(&end));
  body();
  std::vector<double> seconds;
  for (int i = 0; i < repetitions; ++i) {
    KVASIR_CUDA(cudaEventRecord(begin, stream));
    for (int j = 0; j < batch; ++j) body();
    KVASIR_CUDA(cudaEventRecord(end, stream));
    KVASIR_CUDA(cudaEventSynchronize(end));
    float milliseconds = 0;
    KVASIR_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
    seconds.push_back(milliseconds / 1e3 / batch);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::ranges::sort(seconds);
  return {.median_seconds = seconds[seconds.size() / 2],
          .min_seconds = seconds.front(),
          .max_seconds = seconds.back(),
          .repetitions = repetitions};
}

std::string clocks_and_power(int device) {
  const std::string command = fmt::format(
      "nvidia-smi -i {} --query-gpu=clocks.sm,clocks.mem,power.draw --format=csv,noheader "
      "2>/dev/null",
      device);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  char line[256] = {};
  if (!pipe || !std::fgets(line, sizeof line, pipe.get())) return {};
  std::string text(line);
  text.erase(text.find_last_not_of("\n\r ") + 1);
  return text;
}

}  // namespace kvasir::bench
