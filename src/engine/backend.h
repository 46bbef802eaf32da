#pragma once
// A model's weights on a device, and executors over them.

#include <memory>

#include "base/thread_pool.h"
#include "cuda/device.h"
#include "engine/executor.h"
#include "engine/load_model.h"
#include "kv/kv_manager.h"

namespace kvasir::engine {

class Backend {
 public:
  virtual ~Backend() = default;
  // Where the pages of the KV lie that its executors use.
  virtual kv::PageMemoryFactory page_memory() = 0;
  // An executor over the pages of `kv`, which outlives it, with scratch memory of its own.
  virtual std::unique_ptr<Executor> make_executor(const kv::KvManager& kv,
                                                  const models::CpuScratchOptions& scratch) = 0;
};

// Read and place the weights. `pool` outlives the backend. Throw Error as Engine::load does.
std::unique_ptr<Backend> load_cpu_backend(ThreadPool& pool, const EngineOptions& options,
                                          const ResolvedModel& model);
std::unique_ptr<Backend> load_gpu_backend(ThreadPool& pool, const EngineOptions& options,
                                          const ResolvedModel& model);

}  // namespace kvasir::engine
