#include "engine/backend.h"

#include "engine/cpu_executor.h"

namespace kvasir::engine {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(ThreadPool& pool, models::CpuWeights weights)
      : pool_(pool), weights_(std::move(weights)) {}
  kv::PageMemoryFactory page_memory() override { return kv::host_page_memory; }
  std::unique_ptr<Executor> make_executor(const kv::KvManager& kv,
                                          const models::ScratchOptions& scratch) override {
    return std::make_unique<CpuExecutor>(pool_, weights_, kv.page_pool(), scratch);
  }

 private:
  ThreadPool& pool_;
  models::CpuWeights weights_;
};

}  // namespace

std::unique_ptr<Backend> load_backend(ThreadPool& pool, const ResolvedModel& model,
                                      std::shared_ptr<models::WeightSource> source,
                                      const LoadProgress& on_progress) {
  if (model.gpu) return load_gpu_backend(pool, model, *source, on_progress);
  return std::make_unique<CpuBackend>(
      pool, models::load_cpu_weights(
                {.pool = pool}, model.config, std::move(source),
                {.dtype = model.dtype, .isa = model.isa, .on_progress = on_progress}));
}

}  // namespace kvasir::engine
