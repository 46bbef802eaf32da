#include "formats/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace kvasir::formats {
namespace {

using Json = nlohmann::ordered_json;

// The reference implementation's limit.
constexpr uint64_t kMaxHeader = 100'000'000;

struct TypeRow {
  std::string_view name;
  int bits;
  std::optional<DType> dtype;
};
constexpr TypeRow kTypes[] = {{"F32", 32, DType::kF32},
                              {"BF16", 16, DType::kBF16},
                              {"F16", 16, DType::kF16},
                              {"F64", 64, {}},
                              {"I64", 64, {}},
                              {"U64", 64, {}},
                              {"I32", 32, {}},
                              {"U32", 32, {}},
                              {"I16", 16, {}},
                              {"U16", 16, {}},
                              {"I8", 8, {}},
                              {"U8", 8, {}},
                              {"BOOL", 8, {}},
                              {"F8_E4M3", 8, {}},
                              {"F8_E5M2", 8, {}},
                              {"F8_E8M0", 8, {}},
                              {"F8_E4M3FNUZ", 8, {}},
                              {"F8_E5M2FNUZ", 8, {}},
                              {"F4", 4, {}},
                              {"F6_E2M3", 6, {}},
                              {"F6_E3M2", 6, {}},
                              {"C64", 64, {}}};

const TypeRow* find_type(std::string_view name) {
  for (const TypeRow& row : kTypes)
    if (row.name == name) return &row;
  return nullptr;
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

// A parser that also refuses duplicate keys at any depth and deep nesting.
Result<Json> parse_header(std::string_view text, const std::string& origin) {
  std::vector<std::set<std::string>> keys;
  std::string duplicate;
  bool deep = false;
  const auto callback = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > 8) deep = true;
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.empty() &&
        !keys.back().insert(parsed.get<std::string>()).second)
      duplicate = parsed.get<std::string>();
    return !deep;
  };
  Json header = Json::parse(text.begin(), text.end(), callback, /*allow_exceptions=*/false);
  if (!duplicate.empty())
    return Error(ErrorCode::kMalformed, "the header names \"" + duplicate + "\" twice", origin);
  if (deep || header.is_discarded() || !header.is_object())
    return Error(ErrorCode::kMalformed, "expected a JSON object as header, found something else",
                 origin);
  return header;
}

bool is_index(const Json& value) {
  return value.is_number_unsigned() || (value.is_number_integer() && value.get<int64_t>() >= 0);
}

Result<TensorView> parse_entry(const std::string& name, const Json& entry,
                               std::span<const std::byte> data, const std::string& origin) {
  const std::string where = origin + ": tensor " + name;
  const auto bad = [&](std::string message) {
    return Error(ErrorCode::kMalformed, std::move(message), where);
  };
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets"))
    return bad("expected an object with dtype, shape and data_offsets");
  const Json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  if (!dtype.is_string()) return bad("expected dtype as a string");
  const TypeRow* type = find_type(dtype.get<std::string>());
  if (!type) return bad("unknown dtype \"" + dtype.get<std::string>() + "\"");
  if (!shape.is_array() || shape.size() > 16) return bad("expected shape as a list of sizes");
  if (!offsets.is_array() || offsets.size() != 2 || !is_index(offsets[0]) || !is_index(offsets[1]))
    return bad("expected data_offsets as two numbers");

  TensorView view;
  view.name = name;
  view.dtype = type->dtype;
  view.dtype_text = type->name;
  uint64_t bits = static_cast<uint64_t>(type->bits);
  bool is_empty = false, overflows = false;
  for (const Json& extent : shape) {
    if (!is_index(extent) || extent.get<uint64_t>() > (uint64_t{1} << 48))
      return bad("expected shape as a list of sizes");
    view.shape.push_back(extent.get<int64_t>());
    if (view.shape.back() == 0) is_empty = true;
    if (__builtin_mul_overflow(bits, extent.get<uint64_t>(), &bits)) overflows = true;
  }
  if (is_empty)
    bits = 0;
  else if (overflows)
    return bad("shape " + shape_text(view.shape) + " overflows");
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  if (begin > end || end > data.size())
    return bad(
        fmt::format("expected data offsets within 0 and {}, found {} and {}; is the file "
                    "truncated?",
                    data.size(), begin, end));
  if (bits % 8 != 0 || end - begin != bits / 8)
    return bad(fmt::format("expected {} bytes for {} {}, found {}", bits / 8,
                           shape_text(view.shape), view.dtype_text, end - begin));
  view.data = data.subspan(begin, end - begin);
  return view;
}

}  // namespace

int64_t TensorView::elements() const {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

Result<std::vector<TensorView>> parse_safetensors(std::span<const std::byte> file,
                                                  std::string_view origin,
                                                  std::map<std::string, std::string>* metadata) {
  const std::string where(origin);
  if (file.size() < 8)
    return Error(ErrorCode::kMalformed,
                 fmt::format("expected at least 8 bytes, found {}", file.size()), where);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), 8);
  if (header_bytes > kMaxHeader || header_bytes > file.size() - 8)
    return Error(ErrorCode::kMalformed,
                 fmt::format("expected a header of at most {} bytes, found a length of {}; is this "
                             "a safetensors file, whole?",
                             std::min<uint64_t>(kMaxHeader, file.size() - 8), header_bytes),
                 where);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);
  auto header = parse_header(text, where);
  if (!header) return header.error();
  const std::span<const std::byte> data = file.subspan(8 + header_bytes);

  std::vector<TensorView> tensors;
  for (const auto& [name, entry] : header.value().items()) {
    if (name == "__metadata__") {
      if (!entry.is_object())
        return Error(ErrorCode::kMalformed, "expected __metadata__ as an object", where);
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string())
          return Error(
              ErrorCode::kMalformed,
              "__metadata__: expected text for \"" + key + "\", found " + value.type_name(), where);
        if (metadata) metadata->emplace(key, value.get<std::string>());
      }
      continue;
    }
    auto tensor = parse_entry(name, entry, data, where);
    if (!tensor) return tensor.error();
    tensors.push_back(std::move(tensor).value());
  }

  // Every byte of the data belongs to exactly one tensor.
  std::sort(tensors.begin(), tensors.end(), [](const TensorView& a, const TensorView& b) {
    return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
  });
  const std::byte* reached = data.data();
  for (const TensorView& tensor : tensors) {
    if (tensor.data.data() != reached)
      return Error(ErrorCode::kMalformed,
                   fmt::format("expected the data of {} at offset {}, found it at {}: tensors {}",
                               tensor.name, reached - data.data(), tensor.data.data() - data.data(),
                               tensor.data.data() < reached ? "overlap" : "leave a hole"),
                   where);
    reached += tensor.data.size();
  }
  if (reached != data.data() + data.size())
    return Error(
        ErrorCode::kMalformed,
        fmt::format("expected {} bytes of data, found {}", reached - data.data(), data.size()),
        where);
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorView& a, const TensorView& b) { return a.name < b.name; });
  return tensors;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path);
  if (!mapped) return mapped.error();
  SafetensorsFile file(std::move(mapped).value());
  file.path_ = path;
  auto tensors = parse_safetensors(file.file_.bytes(), path.string(), &file.metadata_);
  if (!tensors) return tensors.error();
  file.tensors_ = std::move(tensors).value();
  return file;
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto at = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorView& tensor, std::string_view key) { return tensor.name < key; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

void SafetensorsFile::drop(const TensorView& tensor) const {
  file_.drop(static_cast<size_t>(tensor.data.data() - file_.bytes().data()), tensor.data.size());
}

Result<WeightFiles> WeightFiles::open(const std::filesystem::path& folder) {
  WeightFiles weights;
  weights.folder_ = folder;
  const auto index_path = folder / "model.safetensors.index.json";
  const auto add_file = [&](const std::filesystem::path& path) -> Result<const SafetensorsFile*> {
    auto file = SafetensorsFile::open(path);
    if (!file) return file.error();
    weights.files_.push_back(std::make_unique<SafetensorsFile>(std::move(file).value()));
    return weights.files_.back().get();
  };
  std::error_code unknown;  // opening says what is wrong
  if (!std::filesystem::exists(index_path, unknown)) {
    if (!std::filesystem::exists(folder / "model.safetensors", unknown))
      return Error(ErrorCode::kNotFound,
                   "expected model.safetensors or model.safetensors.index.json, found neither",
                   folder.string());
    auto file = add_file(folder / "model.safetensors");
    if (!file) return file.error();
    for (const TensorView& tensor : file.value()->tensors())
      weights.places_[tensor.name] = {file.value(), &tensor};
    return weights;
  }

  auto text = read_file(index_path);
  if (!text) return text.error();
  const Json index = Json::parse(text.value(), nullptr, /*allow_exceptions=*/false);
  if (index.is_discarded() || !index.is_object() || !index.contains("weight_map") ||
      !index["weight_map"].is_object())
    return Error(ErrorCode::kMalformed, "expected a JSON object with a weight_map",
                 index_path.string());
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [name, shard] : index["weight_map"].items()) {
    if (!shard.is_string() || shard.get<std::string>().find('/') != std::string::npos)
      return Error(ErrorCode::kMalformed,
                   "weight_map: expected a file name of this folder for " + name,
                   index_path.string());
    const std::string file_name = shard.get<std::string>();
    if (!shards.contains(file_name)) {
      auto file = add_file(folder / file_name);
      if (!file) return file.error();
      shards[file_name] = file.value();
    }
    const TensorView* tensor = shards[file_name]->find(name);
    if (!tensor)
      return Error(ErrorCode::kMalformed,
                   "the index places tensor " + name + " in this file, but it is not there",
                   (folder / file_name).string());
    weights.places_[name] = {shards[file_name], tensor};
  }
  return weights;
}

Result<TensorView> WeightFiles::get(std::string_view name, std::span<const int64_t> shape,
                                    std::string_view hint) const {
  const auto at = places_.find(name);
  if (at == places_.end())
    return Error(
        ErrorCode::kNotFound,
        fmt::format("expected a tensor {} {}, found none of that name", name, shape_text(shape)),
        folder_.string());
  const TensorView& tensor = *at->second.tensor;
  if (!tensor.dtype ||
      !std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end()))
    return Error(
        ErrorCode::kMalformed,
        fmt::format("{}: expected {} in F32, BF16 or F16, found {} {}{}{}", name, shape_text(shape),
                    shape_text(tensor.shape), tensor.dtype_text, hint.empty() ? "" : "; ", hint),
        at->second.file->path().string());
  return tensor;
}

bool WeightFiles::contains(std::string_view name) const {
  return places_.find(name) != places_.end();
}

void WeightFiles::drop(std::string_view name) const {
  if (const auto at = places_.find(name); at != places_.end())
    at->second.file->drop(*at->second.tensor);
}

uint64_t WeightFiles::total_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, place] : places_) bytes += place.tensor->data.size();
  return bytes;
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  return names;
}

std::string safetensors_header(std::span<const TensorToWrite> tensors,
                               const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    uint64_t bytes = dtype_bytes(tensor.dtype);
    for (const int64_t extent : tensor.shape) bytes *= static_cast<uint64_t>(extent);
    const char* type = tensor.dtype == DType::kF32    ? "F32"
                       : tensor.dtype == DType::kBF16 ? "BF16"
                                                      : "F16";
    header[tensor.name] = {
        {"dtype", type}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + text;
}

Result<void> write_safetensors(const std::filesystem::path& path,
                               std::span<const TensorToWrite> tensors,
                               const std::map<std::string, std::string>& metadata) {
  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  if (auto done = file.value().write(safetensors_header(tensors, metadata)); !done) return done;
  for (const TensorToWrite& tensor : tensors)
    if (auto done = file.value().write(tensor.data); !done) return done;
  return file.value().commit();
}

}  // namespace kvasir::formats
