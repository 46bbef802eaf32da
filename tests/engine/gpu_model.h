#pragma once
// A model on the GPU for tests: TestModel's counterpart.

#include "engine/backend.h"
#include "engine/executor_cuda.h"
#include "engine/gpu.h"
#include "engine/test_model.h"

namespace kvasir::engine {

class GpuTestModel : public ModelRunner {
 public:
  GpuTestModel(const std::filesystem::path& folder, DType dtype, int64_t blocks = 64)
      : ModelRunner(folder, 2) {
    ResolvedModel model;
    model.config = config;
    model.dtype = dtype;
    model.gpu = open_gpu(0).value();
    backend = load_backend(
        pool, model,
        std::make_shared<models::FileWeights>(formats::WeightFiles::open(folder).value()));
    kv =
        std::make_unique<kv::KvManager>(kv_geometry(config, dtype), blocks, backend->page_memory());
    executor = backend->make_executor(*kv, scratch());
  }
  ~GpuTestModel() override {
    executor.reset();
    kv.reset();
  }

  std::unique_ptr<Backend> backend;
};

}  // namespace kvasir::engine
