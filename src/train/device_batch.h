#pragma once
// A batch where the model is: tensors on its device, and the rotations of its rows.

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "models/rotary.h"
#include "train/batch.h"

namespace kvasir::train {

struct DeviceBatch {
  at::Tensor tokens, targets;      // [rows] int64
  at::Tensor weights;              // [rows] f32
  std::vector<int32_t> documents;  // [documents + 1], as in Batch
  at::Tensor documents_on_device;  // the same, int32
  int64_t longest = 0;             // document
  bool is_even = false;            // all documents have the same length
  at::Tensor cos_sin;              // [*, rotary_dim] f32: cosines, then sines
  at::Tensor rotation;             // [rows] int64: the row of cos_sin
  int64_t rows() const { return tokens.size(0); }
};

// Puts batches on a device. Keeps the table of rotations from one batch to the next.
class BatchUpload {
 public:
  BatchUpload(const formats::ModelConfig& config, at::Device device);
  // Throws kInvalidArgument where arrays disagree, documents are empty or tokens are out of range.
  DeviceBatch upload(const Batch& batch);

 private:
  void check(const Batch& batch) const;
  void set_rotations(DeviceBatch& batch);

  models::Rotary rotary_;
  int64_t vocab_size_;
  at::Device device_;
  at::Tensor table_;  // of positions 0, 1, ...
};

}  // namespace kvasir::train
