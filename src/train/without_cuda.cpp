// The GPU's side of the room where it is built without CUDA.

#include "kvasir/error.h"
#include "train/gpu.h"
#include "train/row_ops_cuda.h"

namespace kvasir::train {
namespace {

[[noreturn]] void refuse() {
  throw Error(ErrorCode::kUnsupported, "this build has no CUDA; train with device \"cpu\"",
              "training");
}

}  // namespace

TrainDevice train_device(const std::string& words, int) {
  if (words == "auto" || words == "cpu") return {};
  refuse();
}

Normed cuda_norm_forward(const at::Tensor&, const at::Tensor&, const at::Tensor&, double) {
  refuse();
}
at::Tensor cuda_norm_backward(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                              const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  refuse();
}
void cuda_rotate(const at::Tensor&, const HeadShape&, const at::Tensor&, const at::Tensor&) {
  refuse();
}
at::Tensor cuda_rotate_back(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                            const HeadShape&, const at::Tensor&, const at::Tensor&) {
  refuse();
}
at::Tensor cuda_gated_forward(const at::Tensor&) { refuse(); }
at::Tensor cuda_gated_backward(const at::Tensor&, const at::Tensor&) { refuse(); }
at::Tensor cuda_cross_entropy(at::Tensor&, const at::Tensor&, const at::Tensor&, bool) { refuse(); }

}  // namespace kvasir::train
