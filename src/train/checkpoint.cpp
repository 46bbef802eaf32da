#include "train/checkpoint.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/file.h"
#include "formats/safetensors.h"

namespace kvasir::train {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kShardBytes = int64_t{4} << 30;
constexpr std::string_view kPrefix = "checkpoint-";
constexpr const char* kStateFile = "training/state.json";

// A tensor on disk and where it lies in the flat arrays: parameters that it stacks are neighbours.
struct StoredTensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0, size = 0;
};

std::vector<StoredTensor> stored_tensors(const Parameters& parameters) {
  std::vector<StoredTensor> tensors;
  for (const ParameterSpec& spec : parameters.specs()) {
    if (spec.first_row > 0) {
      StoredTensor& before = tensors.back();
      KVASIR_CHECK(before.name == spec.tensor && before.offset + before.size == spec.offset);
      before.size += spec.size();
      continue;
    }
    std::vector<int64_t> shape{spec.tensor_rows};
    if (spec.columns) shape.push_back(spec.columns);
    tensors.push_back({spec.tensor, std::move(shape), spec.offset, spec.size()});
  }
  return tensors;
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

// Some tensors of a flat array (on the CPU) as one file.
void write_tensors(const fs::path& path, std::span<const StoredTensor> tensors,
                   const at::Tensor& flat) {
  std::vector<formats::TensorToWrite> contents;
  const DType dtype = flat.scalar_type() == at::kFloat ? DType::kF32 : DType::kBF16;
  for (const StoredTensor& tensor : tensors)
    contents.push_back({tensor.name, dtype, tensor.shape,
                        bytes_of(flat.slice(0, tensor.offset, tensor.offset + tensor.size))});
  formats::write_safetensors(path, contents, {{"format", "pt"}}).value();
}

void write_model(const fs::path& folder, const std::vector<StoredTensor>& tensors,
                 const at::Tensor& masters) {
  const at::Tensor weights = masters.to(at::kBFloat16).cpu();
  std::vector<std::vector<StoredTensor>> shards(1);
  int64_t bytes = 0, total = 0;
  for (const StoredTensor& tensor : tensors) {
    if (bytes > 0 && bytes + 2 * tensor.size > kShardBytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().push_back(tensor);
    bytes += 2 * tensor.size;
    total += 2 * tensor.size;
  }
  nlohmann::json map;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_tensors(folder / name, shards[i], weights);
    for (const StoredTensor& tensor : shards[i]) map[tensor.name] = name;
  }
  const nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_file(folder / "model.safetensors.index.json", index.dump(1) + "\n").value();
}

void copy_model_files(const fs::path& from, const fs::path& to) {
  for (const fs::directory_entry& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename();
    const bool is_text = name.ends_with(".json") || name.ends_with(".jinja") ||
                         name.ends_with(".txt") || name.ends_with(".model");
    if (entry.is_regular_file() && is_text && !name.ends_with(".index.json"))
      write_file(to / name, read_file(entry.path()).value()).value();
  }
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  const bool failed = descriptor < 0 || ::fsync(descriptor) != 0;
  const std::string reason = failed ? std::strerror(errno) : "";
  if (descriptor >= 0) ::close(descriptor);
  if (failed) throw Error(ErrorCode::kIo, "cannot sync: " + reason, folder.string());
}

// Whole checkpoints in ascending order of steps.
std::vector<fs::path> checkpoints(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code none;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, none))
    if (step_of(entry.path()) >= 0 && fs::exists(entry.path() / "config.json"))
      found.push_back(entry.path());
  std::ranges::sort(found, {}, step_of);
  return found;
}

void read_flat(const fs::path& path, const std::vector<StoredTensor>& tensors,
               const at::Tensor& flat) {
  const formats::SafetensorsFile file = formats::SafetensorsFile::open(path).value();
  for (const StoredTensor& tensor : tensors) {
    const formats::TensorView* view = file.find(tensor.name);
    if (!view || view->shape != tensor.shape || view->dtype != DType::kF32)
      throw Error(
          ErrorCode::kMalformed,
          fmt::format("expected {} in f32 with {} elements, found {}; was it written with "
                      "another config.json?",
                      tensor.name, tensor.size,
                      view ? fmt::format("{} in {}", view->elements(), view->dtype_text) : "none"),
          path.string());
    const at::Tensor values = at::empty({tensor.size}, at::kFloat);
    std::memcpy(values.data_ptr(), view->data.data(), view->data.size());
    flat.slice(0, tensor.offset, tensor.offset + tensor.size).copy_(values);
    file.drop(*view);
  }
}

}  // namespace

int64_t step_of(const fs::path& checkpoint) {
  const std::string name = checkpoint.filename().string();
  if (!name.starts_with(kPrefix)) return -1;
  int64_t step = -1;
  const auto [end, failed] =
      std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
  return failed == std::errc() && end == name.data() + name.size() ? step : -1;
}

fs::path write_checkpoint(const CheckpointPlace& place, const Parameters& parameters,
                          const Optimizer& optimizer, const TrainState& state) {
  try {
    const fs::path path = place.folder / fmt::format("{}{:09}", kPrefix, state.step);
    const fs::path unfinished = place.folder / ".unfinished";
    fs::remove_all(unfinished);
    fs::create_directories(unfinished / "training");
    const std::vector<StoredTensor> tensors = stored_tensors(parameters);
    copy_model_files(place.model, unfinished);
    write_model(unfinished, tensors, parameters.masters());
    write_tensors(unfinished / "training/masters.safetensors", tensors, parameters.masters().cpu());
    for (const auto& [name, flat] : optimizer.state())
      write_tensors(unfinished / "training" / (name + ".safetensors"), tensors, flat.cpu());
    const nlohmann::json json{{"step", state.step},
                              {"tokens", state.tokens},
                              {"optimizer_steps", optimizer.steps()},
                              {"data", state.data},
                              {"lowest_loss", state.lowest_loss},
                              {"first_step", state.first_step}};
    write_file(unfinished / kStateFile, json.dump(1) + "\n").value();
    sync_folder(unfinished / "training");
    sync_folder(unfinished);
    fs::remove_all(path);  // of a run that was taken up at an earlier step
    fs::rename(unfinished, path);
    sync_folder(place.folder);
    const std::vector<fs::path> all = checkpoints(place.folder);
    for (size_t i = 0; i + static_cast<size_t>(place.keep) < all.size(); ++i)
      if (all[i] != path) fs::remove_all(all[i]);
    return path;
  } catch (const fs::filesystem_error& error) {
    throw Error(ErrorCode::kIo, error.what(), "checkpoint");
  }
}

std::optional<fs::path> latest_checkpoint(const fs::path& folder) {
  const std::vector<fs::path> all = checkpoints(folder);
  if (all.empty()) return std::nullopt;
  return all.back();
}

bool has_training_state(const fs::path& checkpoint) { return fs::exists(checkpoint / "training"); }

TrainState read_checkpoint(const fs::path& checkpoint, Parameters& parameters,
                           Optimizer& optimizer) {
  const fs::path state_path = checkpoint / kStateFile;
  const std::string text = read_file(state_path).value();
  TrainState state;
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    state = {.step = json.at("step"),
             .tokens = json.at("tokens"),
             .data = json.at("data"),
             .lowest_loss = json.at("lowest_loss"),
             .first_step = json.value("first_step", int64_t{0})};
    optimizer.set_steps(json.at("optimizer_steps"));
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::kMalformed, error.what(), state_path.string());
  }
  const std::vector<StoredTensor> tensors = stored_tensors(parameters);
  read_flat(checkpoint / "training/masters.safetensors", tensors, parameters.masters());
  for (const auto& [name, flat] : optimizer.state())
    read_flat(checkpoint / "training" / (name + ".safetensors"), tensors, flat);
  parameters.refresh();
  return state;
}

}  // namespace kvasir::train
