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
                                          const models::CpuScratchOptions& scratch) override {
    return std::make_unique<CpuExecutor>(pool_, weights_, kv.page_pool(), scratch);
  }

 private:
  ThreadPool& pool_;
  models::CpuWeights weights_;
};

}  // namespace

std::unique_ptr<Backend> load_cpu_backend(ThreadPool& pool, const EngineOptions& options,
                                          const ResolvedModel& model) {
  auto source =
      std::make_shared<models::FileWeights>(formats::WeightFiles::open(options.model).value());
  return std::make_unique<CpuBackend>(
      pool, models::load_cpu_weights(
                {.pool = pool}, model.config, source,
                {.dtype = model.dtype, .isa = model.isa, .on_progress = options.on_load_progress}));
}

}  // namespace kvasir::engine
