#pragma once
// The models that tests/engine/model_oracle.py writes, with what transformers computes for them.

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "formats/safetensors.h"
#include "kvasir/request.h"

namespace kvasir::oracle {

// clang-format off: a line or two of each family
inline constexpr const char* kOracleCases[] = {
    "llama", "llama_tied", "llama_attention_bias", "llama_mlp_bias", "llama_linear",
    "llama_dynamic", "llama_llama3", "llama_yarn", "llama_yarn_mscale", "llama_mha_d80",
    "llama_mqa_d96", "llama_d128", "llama_d256_gqa3", "llama_d24_gqa5", "llama_one_layer",
    "llama_yi",
    "qwen2", "qwen2_tied", "qwen2_window", "qwen2_yarn", "qwen3", "qwen3_tied_bias",
    "mistral", "mistral_nemo", "mistral_window", "mistral_window_tied",
    "phi3", "phi3_window", "phi3_longrope", "phi3_longrope_short", "phi3_longrope_outgrown",
    "phi4_mini", "phi4_mini_factors",
    "glm", "glm_tied_d40", "glm_no_bias", "glm_linear", "glm4", "glm4_tied", "glm4_one_layer",
};
// clang-format on

// The cases' folder, written once per process; empty where the oracle is not installed.
inline const std::filesystem::path& oracle_models() {
  static const std::filesystem::path folder = [] {
    const std::filesystem::path source = KVASIR_SOURCE_DIR;
    const auto python = source / ".venv-oracle/bin/python";
    if (!std::filesystem::exists(python)) return std::filesystem::path();
    const auto out =
        std::filesystem::temp_directory_path() / "kvasir-model-oracle" /
        std::to_string(std::filesystem::last_write_time(source / "tests/engine/model_oracle.py")
                           .time_since_epoch()
                           .count());
    if (!std::filesystem::exists(out / "cases.json")) {
      const auto building = out.string() + "." + std::to_string(::getpid());
      const std::string command = python.string() + " " +
                                  (source / "tests/engine/model_oracle.py").string() + " " +
                                  building + " > /dev/null 2>&1";
      std::filesystem::create_directories(building);
      if (std::system(command.c_str()) != 0) return std::filesystem::path("failed");
      std::error_code taken;  // another process may have been faster
      std::filesystem::rename(building, out, taken);
      if (taken) std::filesystem::remove_all(building);
    }
    return out;
  }();
  return folder;
}

inline std::vector<float> floats(const formats::SafetensorsFile& file, const std::string& name) {
  const formats::TensorView* tensor = file.find(name);
  if (!tensor) throw Error(ErrorCode::kNotFound, "no tensor " + name, file.path().string());
  std::vector<float> values(tensor->elements());
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  return values;
}

inline std::vector<TokenId> ids(const formats::SafetensorsFile& file, const std::string& name) {
  const std::vector<float> values = floats(file, name);
  return {values.begin(), values.end()};
}

inline float largest_difference(std::span<const float> a, std::span<const float> b) {
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return a.size() == b.size() ? largest : INFINITY;
}

}  // namespace kvasir::oracle
