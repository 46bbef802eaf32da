#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "kvasir/error.h"
#include "text/bpe.h"
#include "text/unicode.h"

namespace kvasir::text {

std::unique_ptr<const BpeModel> BpeModel::parse(const JsonNode& node, bool bytes) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!node.string_or(key, "").empty()) {
      node.at(key).unsupported(node.string(key), "null or an empty string");
    }
  }
  if (node.has("dropout")) {
    const JsonNode dropout = node.at("dropout");
    if (!dropout.value().is_number()) dropout.malformed("null or a number");
    if (dropout.value().get<double>() != 0.0) {
      dropout.unsupported(dropout.value().dump(), "null or 0: encoding here is never random");
    }
  }
  auto parsed = std::make_unique<BpeModel>();
  BpeModel& model = *parsed;
  model.bytes_ = bytes;
  model.byte_fallback_ = node.boolean_or("byte_fallback", false);
  model.fuse_unknown_ = node.boolean_or("fuse_unk", false);
  model.ignore_merges_ = node.boolean_or("ignore_merges", false);
  model.vocabulary_ = read_vocabulary(node.at("vocab"));
  model.read_merges(node.at("merges"));
  if (node.has("unk_token")) model.unknown_ = model.find_token(node.at("unk_token"));
  model.build_starts();
  return parsed;
}

void BpeModel::read_merges(const JsonNode& node) {
  const size_t count = node.size();
  merges_.reserve(count);
  uint32_t rank = 0;
  std::string joined;
  for (size_t i = 0; i < count; ++i) {
    const Json& merge = node.value()[i];
    std::string_view left, right;
    if (merge.is_string()) {
      const std::string_view line = merge.get_ref<const std::string&>();
      if (line.starts_with("#version")) continue;
      const size_t space = line.find(' ');
      if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
        node.at(i).malformed("two tokens with one space between them");
      }
      left = line.substr(0, space);
      right = line.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      left = merge[0].get_ref<const std::string&>();
      right = merge[1].get_ref<const std::string&>();
    } else {
      node.at(i).malformed("\"left right\" or [\"left\", \"right\"]");
    }
    joined.assign(left).append(right);
    TokenId ids[3];
    int found = 0;
    for (const std::string_view token : {left, right, std::string_view(joined)}) {
      ids[found] = vocabulary_.find(token);
      if (ids[found++] >= 0) continue;
      throw Error(ErrorCode::kMalformed,
                  fmt::format("expected tokens of the vocabulary, found \"{}\"; do vocabulary and "
                              "merges belong together?",
                              token),
                  node.at(i).where());
    }
    merges_.insert(ids[0], ids[1], rank++, ids[2]);
    if (!left.empty() && right.starts_with("\xE2\x96\x81")) {
      size_t end = left.size();
      before_mark_.insert(previous_code_point(left, end));
    }
  }
}

void BpeModel::build_starts() {
  fallback_.fill(-1);
  byte_start_.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (byte_fallback_) fallback_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
    std::string character;
    append_utf8(byte_to_char(static_cast<uint8_t>(byte)), character);
    if (bytes_) byte_start_[byte] = vocabulary_.find(character);
  }
  if (!bytes_) character_start_.assign(0x10000, -1);
  std::string raw;
  for (size_t entry = 0; entry < vocabulary_.size(); ++entry) {
    const std::string_view text = vocabulary_.text(entry);
    if (text.empty()) continue;
    if (!bytes_) {
      size_t end = 0;
      const char32_t c = next_code_point(text, end);
      if (end != text.size()) continue;
      if (c < character_start_.size()) {
        character_start_[c] = vocabulary_.id(entry);
      } else {
        character_start_high_.emplace(c, vocabulary_.id(entry));
      }
    } else if (ignore_merges_) {
      raw.clear();
      bool is_bytes = true;
      for (size_t at = 0; at < text.size() && is_bytes;) {
        const int byte = char_to_byte(next_code_point(text, at));
        is_bytes = byte >= 0;
        raw.push_back(static_cast<char>(byte));
      }
      if (is_bytes) raw_vocabulary_.insert(raw, vocabulary_.id(entry));
    }
  }
}

}  // namespace kvasir::text
