#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "train/process_group_nccl.h"

namespace kvasir::train {

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const ProcessGroupOptions& options) {
  auto nccl = c10d::ProcessGroupNCCL::Options::create();
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, options.rank, options.size, nccl);
}

}  // namespace kvasir::train
