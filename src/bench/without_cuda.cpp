// In place of the measurements on a GPU where the build found no nvcc.

#include "bench/gpu_bench.h"
#include "kvasir/error.h"

namespace kvasir::bench {

Report run_gpu_bench(const BenchOptions&, const cuda::Device&, ThreadPool&, std::ostream&) {
  throw Error(ErrorCode::kUnsupported, "this build runs on the CPU only", "--device");
}

}  // namespace kvasir::bench
