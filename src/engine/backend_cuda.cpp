#include "engine/backend.h"
#include "engine/executor_cuda.h"

namespace kvasir::engine {
namespace {

// Pages in device memory; copies are ordered with what the executor queues on the same stream.
class DevicePageMemory final : public kv::PageMemory {
 public:
  DevicePageMemory(size_t bytes, int device, cudaStream_t stream)
      : memory_(bytes), device_(device), stream_(stream) {}
  std::byte* data() const override { return memory_.data(); }
  void copy(size_t from, size_t to, size_t pitch, size_t bytes, size_t rows) override {
    KVASIR_CUDA(cudaSetDevice(device_));  // of the calling thread
    KVASIR_CUDA(cudaMemcpy2DAsync(data() + to, pitch, data() + from, pitch, bytes, rows,
                                  cudaMemcpyDeviceToDevice, stream_));
  }

 private:
  cuda::DeviceMemory memory_;
  int device_;
  cudaStream_t stream_;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(ThreadPool& pool, const ResolvedModel& model, models::WeightSource& source,
              const LoadProgress& on_progress)
      : device_(*model.gpu) {
    KVASIR_CUDA(cudaSetDevice(device_.index));
    KVASIR_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    weights_ = models::load_cuda_weights(pool, model.config, source,
                                         {.dtype = model.dtype, .on_progress = on_progress});
  }
  ~CudaBackend() override { cudaStreamDestroy(stream_); }

  kv::PageMemoryFactory page_memory() override {
    return [this](size_t bytes) {
      KVASIR_CUDA(cudaSetDevice(device_.index));
      return std::make_unique<DevicePageMemory>(bytes, device_.index, stream_);
    };
  }
  std::unique_ptr<Executor> make_executor(const kv::KvManager& kv,
                                          const models::ScratchOptions& scratch) override {
    KVASIR_CUDA(cudaSetDevice(device_.index));
    return std::make_unique<CudaExecutor>(
        device_, stream_, weights_, kv.page_pool(),
        CudaExecutor::Options{.scratch = scratch, .pool_blocks = kv.stats().total_blocks});
  }

 private:
  cuda::Device device_;
  cudaStream_t stream_ = nullptr;
  models::CudaWeights weights_;
};

}  // namespace

std::unique_ptr<Backend> load_gpu_backend(ThreadPool& pool, const ResolvedModel& model,
                                          models::WeightSource& source,
                                          const LoadProgress& on_progress) {
  return std::make_unique<CudaBackend>(pool, model, source, on_progress);
}

}  // namespace kvasir::engine
