#include "train/device_batch.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "kvasir/error.h"

namespace kvasir::train {
namespace {

template <class From, class To>
at::Tensor to_device(const std::vector<From>& values, at::ScalarType type, at::Device device) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())},
                                at::TensorOptions().dtype(type).pinned_memory(device.is_cuda()));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<To>());
  return device.is_cpu() ? tensor : tensor.to(device, type, /*non_blocking=*/true);
}

}  // namespace

BatchUpload::BatchUpload(const formats::ModelConfig& config, at::Device device)
    : rotary_(config.rope, config.head_dim, config.max_positions),
      vocab_size_(config.vocab_size),
      device_(device) {}

void BatchUpload::check(const Batch& batch) const {
  const auto fail = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message, "training batch");
  };
  const size_t rows = batch.tokens.size();
  if (rows == 0 || batch.targets.size() != rows || batch.weights.size() != rows)
    fail("expected as many targets and weights as tokens, at least one");
  const std::vector<int32_t>& documents = batch.documents;
  if (documents.size() < 2 || documents.front() != 0 ||
      documents.back() != static_cast<int32_t>(rows) ||
      std::adjacent_find(documents.begin(), documents.end(), std::greater_equal<>()) !=
          documents.end())
    fail("expected ascending first rows of documents from 0 to the number of rows");
  const auto is_token = [&](int32_t token) { return token >= 0 && token < vocab_size_; };
  for (size_t row = 0; row < rows; ++row)
    if (!is_token(batch.tokens[row]) || (batch.weights[row] != 0 && !is_token(batch.targets[row])))
      fail("row " + std::to_string(row) + ": expected tokens below vocab_size " +
           std::to_string(vocab_size_) + ", found " + std::to_string(batch.tokens[row]) +
           " with target " + std::to_string(batch.targets[row]) +
           "; was the data made with this model's tokenizer?");
}

DeviceBatch BatchUpload::upload(const Batch& batch) {
  check(batch);
  DeviceBatch result;
  result.tokens = to_device<int32_t, int64_t>(batch.tokens, at::kLong, device_);
  std::vector<int32_t> targets = batch.targets;  // ones that count nothing may be any number
  for (size_t row = 0; row < targets.size(); ++row)
    if (batch.weights[row] == 0) targets[row] = 0;
  result.targets = to_device<int32_t, int64_t>(targets, at::kLong, device_);
  result.weights = to_device<float, float>(batch.weights, at::kFloat, device_);
  result.documents = batch.documents;
  result.documents_on_device = to_device<int32_t, int32_t>(batch.documents, at::kInt, device_);
  result.is_even = true;
  for (size_t i = 0; i + 1 < batch.documents.size(); ++i) {
    const int64_t length = batch.documents[i + 1] - batch.documents[i];
    result.longest = std::max(result.longest, length);
    result.is_even &= length == batch.documents[1];
  }
  set_rotations(result);
  return result;
}

void BatchUpload::set_rotations(DeviceBatch& batch) {
  const int64_t width = rotary_.rotary_dim();
  const bool own_lengths = batch.longest > rotary_.usual_length();
  if (own_lengths) {
    // Each document's frequencies are those of its length: a table row for each row.
    at::Tensor table = at::empty({batch.rows(), width}, at::kFloat);
    for (size_t i = 0; i + 1 < batch.documents.size(); ++i) {
      const int64_t length = batch.documents[i + 1] - batch.documents[i];
      rotary_.fill(0, length, length, table.mutable_data_ptr<float>() + batch.documents[i] * width);
    }
    batch.cos_sin = table.to(device_);
    batch.rotation = at::arange(batch.rows(), batch.tokens.options());
    return;
  }
  if (!table_.defined() || table_.size(0) < batch.longest) {
    at::Tensor table = at::empty({batch.longest, width}, at::kFloat);
    rotary_.fill(0, batch.longest, batch.longest, table.mutable_data_ptr<float>());
    table_ = table.to(device_);
  }
  batch.cos_sin = table_;
  std::vector<int64_t> positions(static_cast<size_t>(batch.rows()));
  for (size_t i = 0; i + 1 < batch.documents.size(); ++i)
    for (int32_t row = batch.documents[i]; row < batch.documents[i + 1]; ++row)
      positions[row] = row - batch.documents[i];
  batch.rotation = to_device<int64_t, int64_t>(positions, at::kLong, device_);
}

}  // namespace kvasir::train
