#pragma once
// Copies tensors from mapped files to a GPU: threads convert them into page-locked pieces, which
// the device fetches while the next ones are filled. Bound by the host-to-device rate.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "cuda/memory.h"

namespace kvasir::models {

struct Upload {
  const std::byte* source = nullptr;  // any alignment
  DType from = DType::kBF16;
  std::byte* target = nullptr;  // device
  DType to = DType::kBF16;
  int64_t elements = 0;
  std::string name;  // of the tensor
};

class Uploader {
 public:
  // `release(name)` is called when no upload of the tensor is pending.
  Uploader(ThreadPool& pool, std::function<void(std::string_view)> release);
  ~Uploader();
  void on_progress(std::function<void(int64_t bytes_done)> report) { report_ = std::move(report); }

  // The source stays readable until its name is released. Throws where the device fails.
  void add(Upload upload);
  // Returns when everything has arrived.
  void finish();

 private:
  struct Piece {
    size_t upload;
    int64_t first, count;
  };
  struct Slot {
    std::byte* memory;
    cudaEvent_t free;
    cudaStream_t stream;  // of its worker, so that one copy follows the other without a gap
  };
  void flush();
  cudaError_t copy(const Piece& piece, int worker);

  ThreadPool& pool_;
  std::function<void(std::string_view)> release_;
  std::function<void(int64_t)> report_;
  std::vector<Upload> pending_;
  int64_t pending_bytes_ = 0, done_bytes_ = 0;
  int workers_;
  cuda::PinnedMemory memory_;
  std::vector<Slot> slots_;            // kSlotsOfWorker for each worker
  std::vector<int> next_slot_;         // of each worker
  std::vector<cudaStream_t> streams_;  // of each worker
};

}  // namespace kvasir::models
