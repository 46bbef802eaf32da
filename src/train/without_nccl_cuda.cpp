// The build has no NCCL: processes on GPUs cannot join.

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "kvasir/error.h"
#include "train/process_group_nccl.h"

namespace kvasir::train {

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>&,
                                                    const ProcessGroupOptions&) {
  throw Error(ErrorCode::kUnsupported,
              "this build has no NCCL (a libtorch for CUDA and nccl.h are needed); train with one "
              "GPU, or on CPUs",
              "several GPUs");
}

}  // namespace kvasir::train
