#include "data/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/file.h"
#include "base/thread_pool.h"
#include "data/sha256.h"
#include "formats/config_reader.h"
#include "formats/json_text.h"

namespace kvasir::data {
namespace {

constexpr std::string_view kEnding = ".txt";
// So many files are hashed between two reports of progress.
constexpr size_t kGroup = 16;

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A name that stays inside its folder.
bool is_title(std::string_view name) {
  return !name.empty() && name.size() <= 250 && name.front() != '.' &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

Result<Title> hash_title(const std::filesystem::path& folder, const std::string& name) {
  auto file = MappedFile::open(title_path(folder, name));
  if (!file) return file.error();
  const auto bytes = file.value().bytes();
  Sha256 hash;
  hash.add(bytes);
  return Title{name, static_cast<int64_t>(bytes.size()), hex(hash.digest())};
}

// The titles as they lie in the folder, hashed by all threads; where one cannot be read, its error.
std::vector<Result<Title>> hash_titles(const std::filesystem::path& folder,
                                       const std::vector<std::string>& names, ThreadPool& pool,
                                       const ByteProgress& done) {
  std::vector<Result<Title>> titles(names.size(), Title{});
  std::vector<int64_t> sizes;
  int64_t all = 0, reached = 0;
  for (const std::string& name : names) {
    std::error_code ignored;
    const auto size = std::filesystem::file_size(title_path(folder, name), ignored);
    sizes.push_back(ignored ? 0 : static_cast<int64_t>(size));
    all += sizes.back();
  }
  for (size_t first = 0; first < names.size(); first += kGroup) {
    const size_t count = std::min(kGroup, names.size() - first);
    pool.parallel(static_cast<int64_t>(count), [&](int64_t index, int) {
      const size_t i = first + static_cast<size_t>(index);
      titles[i] = hash_title(folder, names[i]);
    });
    for (size_t i = first; i < first + count; ++i) reached += sizes[i];
    if (done) done(reached, all);
  }
  return titles;
}

Manifest read_manifest(const nlohmann::json& json, const std::string& origin) {
  const formats::ConfigReader reader(json, origin);
  if (!json.is_object() || !json.contains("titles") || !json["titles"].is_array())
    throw Error(ErrorCode::kMalformed, "expected an object with a list \"titles\"", origin);
  Manifest manifest;
  for (const nlohmann::json& each : json["titles"]) {
    const std::string where = fmt::format("{}: titles[{}]", origin, manifest.titles.size());
    if (!each.is_object())
      throw Error(ErrorCode::kMalformed, "expected an object, found " + each.dump().substr(0, 60),
                  where);
    const formats::ConfigReader entry(each, where);
    Title title{entry.text("name", ""), entry.integer("bytes", 0, INT64_MAX, {}),
                entry.text("sha256", "")};
    if (!is_title(title.name)) entry.fail("name", "the name of a file without folders", title.name);
    if (!is_sha256(title.sha256)) entry.fail("sha256", "64 hexadecimal digits", title.sha256);
    manifest.titles.push_back(std::move(title));
  }
  auto& titles = manifest.titles;
  std::ranges::sort(titles, {}, &Title::name);
  const auto twice = std::ranges::adjacent_find(titles, {}, &Title::name);
  if (twice != titles.end())
    throw Error(ErrorCode::kMalformed,
                fmt::format("expected each title once, found '{}' twice", twice->name), origin);
  return manifest;
}

// Why the text differs from the manifest; empty where it does not.
std::optional<Error> difference(const Title& title, const Result<Title>& found,
                                const std::filesystem::path& folder) {
  if (!found) return found.error();
  if (found.value() == title) return {};
  const std::string path = title_path(folder, title.name).string();
  if (found.value().bytes != title.bytes)
    return Error(ErrorCode::kMalformed,
                 fmt::format("expected {} bytes, found {}", title.bytes, found.value().bytes),
                 path);
  return Error(ErrorCode::kMalformed,
               fmt::format("expected SHA-256 {}, found {}", title.sha256, found.value().sha256),
               path);
}

}  // namespace

const Title* Manifest::find(std::string_view name) const {
  const auto place = std::ranges::lower_bound(titles, name, {}, &Title::name);
  return place != titles.end() && place->name == name ? &*place : nullptr;
}

std::filesystem::path title_path(const std::filesystem::path& folder, std::string_view name) {
  return folder / (std::string(name) + std::string(kEnding));
}

Result<Manifest> make_manifest(const std::filesystem::path& folder, ThreadPool& pool,
                               const ByteProgress& done) {
  std::error_code failed;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kEnding) && is_title(name) && entry.is_regular_file(failed))
      names.push_back(name.substr(0, name.size() - kEnding.size()));
  }
  if (failed)
    return Error(ErrorCode::kNotFound,
                 "expected a folder of texts, found none: " + failed.message(), folder.string());
  if (names.empty())
    return Error(ErrorCode::kNotFound, "expected files NAME.txt, found none", folder.string());
  std::sort(names.begin(), names.end());
  Manifest manifest;
  for (Result<Title>& title : hash_titles(folder, names, pool, done)) {
    if (!title) return title.error();
    manifest.titles.push_back(std::move(title).value());
  }
  return manifest;
}

std::string manifest_json(const Manifest& manifest) {
  std::string text = "{\"titles\": [";
  const char* separator = "\n ";
  for (const Title& title : manifest.titles) {  // one line each, so that differences show well
    text += fmt::format("{}{{\"name\": {}, \"bytes\": {}, \"sha256\": \"{}\"}}", separator,
                        nlohmann::json(title.name).dump(), title.bytes, title.sha256);
    separator = ",\n ";
  }
  return text + "\n]}\n";
}

Result<Manifest> parse_manifest(std::string_view json, std::string_view origin) {
  return formats::read_json<Manifest>(json, origin, "a manifest in JSON", read_manifest);
}

Result<Manifest> load_manifest(const std::filesystem::path& path) {
  auto text = read_file(path);
  if (!text) return text.error();
  return parse_manifest(text.value(), path.string());
}

Result<void> check_corpus(const Manifest& manifest, const std::filesystem::path& folder,
                          ThreadPool& pool, const ByteProgress& done) {
  if (std::error_code ignored; !std::filesystem::is_directory(folder, ignored))
    return Error(ErrorCode::kNotFound, "expected a folder of texts, found none", folder.string());
  std::vector<std::string> names;
  for (const Title& title : manifest.titles) names.push_back(title.name);
  const std::vector<Result<Title>> found = hash_titles(folder, names, pool, done);
  std::optional<Error> first;
  int64_t different = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    auto error = difference(manifest.titles[i], found[i], folder);
    if (!error) continue;
    ++different;
    if (!first) first = std::move(error);
  }
  if (!first) return {};
  return Error(first->code(),
               fmt::format("{}; {} of {} titles differ from the manifest", first->message(),
                           different, found.size()),
               first->context());
}

}  // namespace kvasir::data
