#pragma once
// c10d's NCCL backend, where libtorch has CUDA and NCCL's header is there.

#include <c10/util/intrusive_ptr.h>

#include "train/process_group.h"

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace kvasir::train {

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const ProcessGroupOptions& options);

}  // namespace kvasir::train
