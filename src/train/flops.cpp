#include "train/flops.h"

#include <array>
#include <utility>

namespace kvasir::train {

double flops_per_row(const formats::ModelConfig& config, double keys_per_row) {
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto q_size = static_cast<double>(config.num_q_heads * config.head_dim);
  const auto kv_size = static_cast<double>(config.num_kv_heads * config.head_dim);
  const auto layers = static_cast<double>(config.num_layers);
  const double layer = hidden * (2 * q_size + 2 * kv_size) +
                       3 * hidden * static_cast<double>(config.intermediate_size);
  const double head = hidden * static_cast<double>(config.vocab_size);
  return 6 * (layers * layer + head) + 12 * layers * q_size * keys_per_row;
}

double keys_per_row(std::span<const int32_t> documents) {
  double keys = 0;
  for (size_t i = 0; i + 1 < documents.size(); ++i) {
    const double length = documents[i + 1] - documents[i];
    keys += length * (length + 1) / 2;
  }
  return documents.empty() || documents.back() == 0 ? 0 : keys / documents.back();
}

double peak_flops(std::string_view device_name) {
  constexpr std::array<std::pair<std::string_view, double>, 4> kPeaks{
      {{"H100 PCIe", 756e12}, {"H100", 989e12}, {"H200", 989e12}, {"A100", 312e12}}};
  for (const auto& [name, peak] : kPeaks)
    if (device_name.find(name) != std::string_view::npos) return peak;
  return 0;
}

}  // namespace kvasir::train
