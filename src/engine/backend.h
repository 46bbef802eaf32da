#pragma once
// A model's weights on a device, and executors over them.

#include <functional>
#include <memory>

#include "base/thread_pool.h"
#include "cuda/device.h"
#include "engine/executor.h"
#include "engine/load_model.h"
#include "kv/kv_manager.h"
#include "models/weight_source.h"

namespace kvasir::engine {

class Backend {
 public:
  virtual ~Backend() = default;
  // Where the pages of the KV lie that its executors use.
  virtual kv::PageMemoryFactory page_memory() = 0;
  // An executor over the pages of `kv`, which outlives it, with scratch memory of its own.
  virtual std::unique_ptr<Executor> make_executor(const kv::KvManager& kv,
                                                  const models::ScratchOptions& scratch) = 0;
};

// Bytes done, bytes in all; may be null.
using LoadProgress = std::function<void(int64_t, int64_t)>;

// Reads and places the weights where `model` says. `pool` outlives the backend. Throws Error as
// Engine::load does.
std::unique_ptr<Backend> load_backend(ThreadPool& pool, const ResolvedModel& model,
                                      std::shared_ptr<models::WeightSource> source,
                                      const LoadProgress& on_progress = nullptr);
// The half of it for GPUs.
std::unique_ptr<Backend> load_gpu_backend(ThreadPool& pool, const ResolvedModel& model,
                                          models::WeightSource& source,
                                          const LoadProgress& on_progress);

}  // namespace kvasir::engine
