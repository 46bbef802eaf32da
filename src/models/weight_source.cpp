#include "models/weight_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace kvasir::models {

Result<formats::TensorView> RandomWeights::get(std::string_view name,
                                               std::span<const int64_t> shape, std::string_view) {
  int64_t elements = 1;
  for (const int64_t extent : shape) elements *= extent;
  std::vector<std::byte>& bytes = tensors_[std::string(name)];
  if (bytes.empty()) {
    bytes.resize(elements * 2);
    // Uniform with the variance that keeps activations near one; a linear congruential stream,
    // repeated where a tensor is large, is random enough for timing.
    const int64_t period = std::min<int64_t>(elements, (int64_t{1} << 20) + 24);
    const float scale =
        shape.size() == 2 ? std::sqrt(3.0f / static_cast<float>(shape[1])) * 0x1p-31f : 0.0f;
    uint32_t state = 12345;
    for (const char letter : name) state = state * 31 + static_cast<unsigned char>(letter);
    for (int64_t i = 0; i < period; ++i) {
      state = state * 1664525u + 1013904223u;
      const float value =
          shape.size() == 2 ? static_cast<float>(static_cast<int32_t>(state)) * scale : 1.0f;
      const bf16_t stored = f32_to_bf16(value);
      std::memcpy(bytes.data() + i * 2, &stored, 2);
    }
    for (int64_t done = period; done < elements; done += period)
      std::memcpy(bytes.data() + done * 2, bytes.data(), std::min(period, elements - done) * 2);
  }
  formats::TensorView view;
  view.name = std::string(name);
  view.dtype = DType::kBF16;
  view.shape.assign(shape.begin(), shape.end());
  view.data = bytes;
  return view;
}

void RandomWeights::drop(std::string_view name) {
  if (const auto found = tensors_.find(name); found != tensors_.end()) tensors_.erase(found);
}

}  // namespace kvasir::models
