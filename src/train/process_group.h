#pragma once
// Data parallel training: what one process of several shares with the others.

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

namespace kvasir::train {

class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Replaces `tensor` by the sum over all processes; on a GPU queued like any other work. All
  // processes call it in the same order.
  virtual void sum(at::Tensor& tensor) = 0;
  // Waits for all processes.
  virtual void barrier() = 0;
};

struct ProcessGroupOptions {
  int rank = 0, size = 1;
  // Where processes meet: "host:port" (rank 0 listens), or a file that all of them see.
  std::string meeting;
  at::Device device = at::kCPU;  // CUDA: NCCL; CPU: Gloo
};
// Through libtorch's c10d. Waits until all processes are there. Throws kUnsupported where this
// build has no NCCL, kIo where the others do not come.
std::unique_ptr<ProcessGroup> join_process_group(const ProcessGroupOptions& options);

}  // namespace kvasir::train
