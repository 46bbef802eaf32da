#include "text/post_processor.h"

#include <algorithm>

namespace kvasir::text {

namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxParts = 256;

}  // namespace

PostProcessor PostProcessor::parse(const JsonNode& node) {
  PostProcessor result;
  if (!node.is_null()) result.append(node, 0);
  return result;
}

void PostProcessor::append(const JsonNode& node, int depth) {
  if (depth > kMaxDepth) node.malformed("at most 16 nested sequences");
  const std::string& type = node.string("type");
  if (type == "Sequence") {
    const JsonNode list = node.at("processors");
    for (size_t i = 0; i < list.size(); ++i) append(list.at(i), depth + 1);
    return;
  }
  if (type == "ByteLevel") return;  // trims offsets only
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    const auto token = [&](const char* key) {
      const JsonNode pair = node.at(key);
      if (pair.size() != 2) pair.malformed("[token, id]");
      return Part{false, {static_cast<TokenId>(pair.at(1).as_integer(0, kMaxTokenId))}};
    };
    templates_.push_back({token("cls"), {true, {}}, token("sep")});
    return;
  }
  if (type != "TemplateProcessing") {
    node.unsupported(type,
                     "Sequence, ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing");
  }
  const JsonNode single = node.at("single");
  const size_t count = single.size();
  if (count > kMaxParts) single.malformed("at most 256 parts");
  size_t texts = 0;
  std::vector<Part> parts;
  for (size_t i = 0; i < count; ++i) {
    const JsonNode part = single.at(i);
    if (part.has("Sequence")) {
      const std::string id = part.at("Sequence").string("id");
      if (id != "A") part.malformed("the sequence \"A\" in the template of a single text");
      ++texts;
      parts.push_back({true, {}});
      continue;
    }
    const std::string name = part.at("SpecialToken").string("id");
    const JsonNode ids = node.at("special_tokens").at(name).at("ids");
    Part special{false, {}};
    for (size_t k = 0; k < ids.size(); ++k) {
      special.ids.push_back(static_cast<TokenId>(ids.at(k).as_integer(0, kMaxTokenId)));
    }
    parts.push_back(std::move(special));
  }
  // Each template may repeat the text; a chain of such would grow without bound.
  if (texts > 1 && !templates_.empty()) single.malformed("the text once in a chain of templates");
  templates_.push_back(std::move(parts));
}

std::vector<TokenId> PostProcessor::apply(std::vector<TokenId> ids, bool add_special_tokens) const {
  for (const auto& parts : templates_) {
    std::vector<TokenId> out;
    out.reserve(ids.size() + parts.size());
    for (const Part& part : parts) {
      if (part.is_text) {
        out.insert(out.end(), ids.begin(), ids.end());
      } else if (add_special_tokens) {
        out.insert(out.end(), part.ids.begin(), part.ids.end());
      }
    }
    ids = std::move(out);
  }
  return ids;
}

TokenId PostProcessor::highest_id() const {
  TokenId highest = -1;
  for (const auto& parts : templates_) {
    for (const Part& part : parts) {
      for (const TokenId id : part.ids) highest = std::max(highest, id);
    }
  }
  return highest;
}

}  // namespace kvasir::text
