#pragma once
// What all searches have in common: a text, who is told how far they are, and where results go.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "kvasir/engine.h"

namespace kvasir::search {

struct Watch {
  // Work done and in all, in no unit of meaning. May be null.
  std::function<void(int64_t done, int64_t total)> on_progress;
  std::function<bool()> cancelled;  // may be null

  // Throws kCancelled where it was asked for.
  void check() const;
};

// What a result was found from: model, text, and how the program was built.
nlohmann::json provenance(const EngineOptions& engine, std::span<const TokenId> text);

// 16 hexadecimal digits of a text's tokens.
std::string text_hash(std::span<const TokenId> text);

// Objects are written with a space of 1, so that they can be read.
void write_json(const std::filesystem::path& path, const nlohmann::json& value);

}  // namespace kvasir::search
