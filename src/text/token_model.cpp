#include "text/token_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kvasir/error.h"

namespace kvasir::text {

TokenId TokenModel::find_token(const JsonNode& node) const {
  const std::string& token = node.as_string();
  const TokenId id = vocabulary_.find(token);
  if (id >= 0) return id;
  throw Error(ErrorCode::kMalformed,
              fmt::format("expected a token of the vocabulary, found \"{}\"", token), node.where());
}

TokenMap read_vocabulary(const JsonNode& node) {
  node.require_object();
  TokenMap vocabulary;
  std::vector<bool> seen;
  for (const auto& [text, value] : node.value().items()) {
    // The place is built for the error alone: a vocabulary has 100,000 entries.
    if (!value.is_number_integer() || value < 0 || value > kMaxTokenId) {
      JsonNode(value, fmt::format("{}[\"{}\"]", node.where(), text)).as_integer(0, kMaxTokenId);
    }
    const auto id = value.get<TokenId>();
    const auto index = static_cast<size_t>(id);
    if (index >= seen.size()) seen.resize(std::max(index + 1, seen.size() * 2));
    if (seen[index]) {
      throw Error(ErrorCode::kMalformed,
                  fmt::format("expected every id once, found {} again for the token \"{}\"; is the "
                              "file damaged?",
                              id, text),
                  node.where());
    }
    seen[index] = true;
    vocabulary.insert(text, id);
  }
  return vocabulary;
}

}  // namespace kvasir::text
