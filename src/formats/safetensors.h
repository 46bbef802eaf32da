#pragma once
// The safetensors format: an 8-byte little-endian header length, a JSON header, raw row-major data.

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/result.h"

namespace kvasir::formats {

// One tensor of an open file. `data` may be unaligned.
struct TensorView {
  std::string name;
  std::optional<DType> dtype;  // empty for types that weights do not come in (I64, U8, ...)
  std::string dtype_text;      // as in the file: "BF16"
  std::vector<int64_t> shape;
  std::span<const std::byte> data;

  int64_t elements() const;
};

// The tensors that a header describes inside `file` (a whole file's bytes). Everything the header
// says is checked: length, JSON, names, dtypes, offsets inside the file, sizes, overlaps and holes.
// Errors: kMalformed with what was expected and found.
Result<std::vector<TensorView>> parse_safetensors(std::span<const std::byte> file,
                                                  std::string_view origin,
                                                  std::map<std::string, std::string>* metadata);

// A memory-mapped file.
class SafetensorsFile {
 public:
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  std::span<const TensorView> tensors() const { return tensors_; }
  const TensorView* find(std::string_view name) const;  // null: not there
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }
  // Lets the system take back the memory of this tensor's pages.
  void drop(const TensorView& tensor) const;

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  std::filesystem::path path_;
  std::vector<TensorView> tensors_;  // ordered by name
  std::map<std::string, std::string> metadata_;
};

// A model folder's weights: the shards of model.safetensors.index.json, else model.safetensors.
class WeightFiles {
 public:
  static Result<WeightFiles> open(const std::filesystem::path& folder);

  // The tensor, which must have exactly this shape and be f32, bf16 or f16. `hint` ends the message
  // where the shape differs: "is num_key_value_heads right?".
  Result<TensorView> get(std::string_view name, std::span<const int64_t> shape,
                         std::string_view hint = {}) const;
  bool contains(std::string_view name) const;
  void drop(std::string_view name) const;
  uint64_t total_bytes() const;
  std::vector<std::string> names() const;

 private:
  struct Place {
    const SafetensorsFile* file;
    const TensorView* tensor;
  };
  std::filesystem::path folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Place, std::less<>> places_;
};

struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> data;
};

// The bytes before the data of a file that holds these tensors (their `data` is not read), padded
// so that the data starts at a multiple of 8.
std::string safetensors_header(std::span<const TensorToWrite> tensors,
                               const std::map<std::string, std::string>& metadata = {});

// Writes the file whole or not at all.
Result<void> write_safetensors(const std::filesystem::path& path,
                               std::span<const TensorToWrite> tensors,
                               const std::map<std::string, std::string>& metadata = {});

}  // namespace kvasir::formats
