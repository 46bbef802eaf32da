#include "search/search.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace kvasir::search {

void Watch::check() const {
  if (cancelled && cancelled()) throw Error(ErrorCode::kCancelled, "the search was interrupted");
}

std::string text_hash(std::span<const TokenId> text) {
  uint64_t hash = 14695981039346656037ull;  // FNV-1a over whole tokens
  for (const TokenId token : text)
    hash = (hash ^ static_cast<uint64_t>(static_cast<uint32_t>(token))) * 1099511628211ull;
  return fmt::format("{:016x}", hash);
}

nlohmann::json provenance(const EngineOptions& engine, std::span<const TokenId> text) {
  const std::filesystem::path folder = std::filesystem::absolute(engine.model).lexically_normal();
  const std::string name =
      folder.has_filename() ? folder.filename().string() : folder.parent_path().filename().string();
  return {{"model", name},
          {"text", text_hash(text)},
          {"length", text.size()},
          {"dtype", engine.dtype},
          {"commit", KVASIR_COMMIT}};
}

void write_json(const std::filesystem::path& path, const nlohmann::json& value) {
  write_file(path, value.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n")
      .value();
}

}  // namespace kvasir::search
