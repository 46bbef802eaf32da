#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kvasir/error.h"
#include "text/bpe.h"
#include "text/tokenizer_impl.h"
#include "text/unigram.h"
#include "text/wordpiece.h"

namespace kvasir::text {

namespace {

// Old files leave the type out.
std::string model_kind(const JsonNode& node) {
  node.require_object();
  if (node.has("type")) return node.string("type");
  if (node.has("merges")) return "BPE";
  if (node.has("continuing_subword_prefix")) return "WordPiece";
  if (node.has("vocab") && node.at("vocab").value().is_array()) return "Unigram";
  return node.has("vocab") ? "WordLevel" : "untyped";
}

std::unique_ptr<const TokenModel> parse_model(const JsonNode& node, PreTokenizer& pre_tokenizer) {
  const std::string kind = model_kind(node);
  if (kind == "BPE") return BpeModel::parse(node, pre_tokenizer.take_byte_level());
  if (kind == "Unigram") return UnigramModel::parse(node);
  if (kind == "WordPiece") return WordPieceModel::parse(node);
  if (kind == "WordLevel") return WordLevelModel::parse(node);
  node.unsupported(kind, "BPE, Unigram, WordPiece, WordLevel");
}

}  // namespace

void Tokenizer::Impl::parse(std::string_view json, std::string_view origin) {
  Json document;
  try {
    document = Json::parse(json);
  } catch (const Json::exception& error) {
    throw Error(ErrorCode::kMalformed,
                fmt::format("expected the JSON of a tokenizer, found {}", error.what()),
                std::string(origin));
  }
  const Json null;
  const JsonNode root(document, std::string(origin));
  root.require_object();
  const auto part = [&](const char* key) {
    return root.has(key) ? root.at(key) : JsonNode(null, fmt::format("{}.{}", origin, key));
  };
  if (const std::string version = root.string_or("version", "1.0"); version != "1.0") {
    root.at("version").unsupported(version, "1.0");
  }
  normalizer = Normalizer::parse(part("normalizer"));
  pre_tokenizer = PreTokenizer::parse(part("pre_tokenizer"));
  model = parse_model(root.at("model"), pre_tokenizer);
  added = AddedVocabulary::parse(part("added_tokens"), model->vocabulary(), normalizer);
  post_processor = PostProcessor::parse(part("post_processor"));
  decoder = Decoder::parse(part("decoder"));
  index_tokens(origin);
}

void Tokenizer::Impl::index_tokens(std::string_view origin) {
  const TokenMap& vocabulary = model->vocabulary();
  TokenId highest = -1;
  for (size_t entry = 0; entry < vocabulary.size(); ++entry) {
    highest = std::max(highest, vocabulary.id(entry));
  }
  for (const AddedToken& token : added.tokens()) highest = std::max(highest, token.id);
  if (post_processor.highest_id() > highest) {
    throw Error(ErrorCode::kMalformed,
                fmt::format("expected ids of tokens, up to {}, found {}", highest,
                            post_processor.highest_id()),
                fmt::format("{}.post_processor", origin));
  }
  const auto size = static_cast<size_t>(highest + 1);
  tokens.resize(size);
  decoded.resize(size);
  special.resize(size);
  const auto set = [&](TokenId id, std::string_view token, std::string_view decoded_from) {
    const auto index = static_cast<size_t>(id);
    tokens[index] = token;
    decoded[index] = decoded_from;
    special[index] = added.is_special_text(decoded_from);
  };
  for (size_t entry = 0; entry < vocabulary.size(); ++entry) {
    set(vocabulary.id(entry), vocabulary.text(entry), vocabulary.text(entry));
  }
  for (const AddedToken& token : added.tokens()) {
    set(token.id, token.content, token.matched);
    added_ids.insert(token.content, token.id);
  }
}

}  // namespace kvasir::text
