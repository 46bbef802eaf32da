#include "text/tokenizer_added.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "kvasir/error.h"
#include "text/unicode.h"

namespace kvasir::text {

namespace {

size_t skip_spaces_left(std::string_view text, size_t at) {
  while (at > 0) {
    size_t previous = at;
    if (!is_whitespace(previous_code_point(text, previous))) break;
    at = previous;
  }
  return at;
}

size_t skip_spaces_right(std::string_view text, size_t at) {
  while (at < text.size()) {
    size_t next = at;
    if (!is_whitespace(next_code_point(text, next))) break;
    at = next;
  }
  return at;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  size_t at = begin;
  if (begin > 0 && is_word(previous_code_point(text, at))) return false;
  at = end;
  return end >= text.size() || !is_word(next_code_point(text, at));
}

}  // namespace

int TextSet::child(int node, char byte) const {
  const auto& children = nodes_[static_cast<size_t>(node)].children;
  const auto found = std::ranges::lower_bound(children, byte, {}, &std::pair<char, int>::first);
  return found != children.end() && found->first == byte ? found->second : -1;
}

bool TextSet::insert(std::string_view text, int value) {
  int node = 0;
  for (const char byte : text) {
    int next = child(node, byte);
    if (next < 0) {
      next = static_cast<int>(nodes_.size());
      nodes_.emplace_back();
      auto& children = nodes_[static_cast<size_t>(node)].children;
      children.insert(std::ranges::lower_bound(children, byte, {}, &std::pair<char, int>::first),
                      {byte, next});
    }
    node = next;
  }
  if (nodes_[static_cast<size_t>(node)].value >= 0) return false;
  nodes_[static_cast<size_t>(node)].value = value;
  const auto first = static_cast<uint8_t>(text[0]);
  only_first_ = nodes_[0].children.size() == 1 ? first : -1;
  first_[first] = true;
  return true;
}

bool TextSet::find(std::string_view text, size_t from, size_t& begin, size_t& end,
                   int& value) const {
  for (size_t at = from; at < text.size(); ++at) {
    if (only_first_ >= 0) {
      const void* found = std::memchr(text.data() + at, only_first_, text.size() - at);
      if (found == nullptr) return false;
      at = static_cast<size_t>(static_cast<const char*>(found) - text.data());
    } else if (!first_[static_cast<uint8_t>(text[at])]) {
      continue;
    }
    value = -1;
    int node = 0;
    for (size_t next = at; next < text.size(); ++next) {
      node = child(node, text[next]);
      if (node < 0) break;
      if (nodes_[static_cast<size_t>(node)].value < 0) continue;
      value = nodes_[static_cast<size_t>(node)].value;
      end = next + 1;
    }
    if (value < 0) continue;
    begin = at;
    return true;
  }
  return false;
}

AddedVocabulary AddedVocabulary::parse(const JsonNode& node, const TokenMap& vocabulary,
                                       const Normalizer& normalizer) {
  AddedVocabulary result;
  if (node.is_null()) return result;
  std::unordered_set<std::string> contents;
  std::unordered_map<TokenId, std::string> named;
  std::vector<int32_t> entry_of_id;  // of the vocabulary, -1 where the id is free
  for (size_t entry = 0; entry < vocabulary.size(); ++entry) {
    const auto id = static_cast<size_t>(vocabulary.id(entry));
    if (id >= entry_of_id.size()) entry_of_id.resize(std::max(id + 1, 2 * entry_of_id.size()), -1);
    entry_of_id[id] = static_cast<int32_t>(entry);
  }
  const size_t count = node.size();
  for (size_t i = 0; i < count; ++i) {
    const JsonNode entry = node.at(i);
    AddedToken token;
    token.content = entry.string("content");
    token.id = static_cast<TokenId>(entry.integer("id", 0, kMaxTokenId));
    token.single_word = entry.boolean_or("single_word", false);
    token.left_strip = entry.boolean_or("lstrip", false);
    token.right_strip = entry.boolean_or("rstrip", false);
    token.special = entry.boolean_or("special", false);
    token.normalized = entry.boolean_or("normalized", !token.special);
    if (token.content.empty()) entry.malformed("an added token whose content is not empty");
    const TokenId known = vocabulary.find(token.content);
    const auto clash = [&](std::string_view what) {
      throw Error(
          ErrorCode::kMalformed,
          fmt::format("expected one id a token, found id {} for \"{}\", but {}; is the file "
                      "damaged?",
                      token.id, token.content, what),
          entry.where());
    };
    if (known >= 0 && known != token.id) clash(fmt::format("the vocabulary gives it id {}", known));
    const auto index = static_cast<size_t>(token.id);
    if (index < entry_of_id.size() && entry_of_id[index] >= 0 && known < 0) {
      clash(fmt::format("that id is \"{}\"",
                        vocabulary.text(static_cast<size_t>(entry_of_id[index]))));
    }
    const auto [earlier, is_new_id] = named.emplace(token.id, token.content);
    if (!is_new_id) clash(fmt::format("that id was given to \"{}\"", earlier->second));
    if (!contents.insert(token.content).second) clash("that text was added before");
    token.matched = token.content;
    if (token.normalized) token.matched = normalizer.apply(token.content, true).text;
    if (token.matched.empty()) entry.malformed("a token that the normalizer leaves something of");
    TextSet& set = token.normalized ? result.normalized_ : result.plain_;
    if (!set.insert(token.matched, static_cast<int>(result.tokens_.size()))) {
      clash("another added token looks the same once normalised");
    }
    if (token.special) result.special_texts_.insert(token.content);
    result.tokens_.push_back(std::move(token));
  }
  return result;
}

void AddedVocabulary::split(std::string_view text, bool normalized, bool parse_special,
                            std::vector<AddedSpan>& spans) const {
  spans.clear();
  const TextSet& set = normalized ? normalized_ : plain_;
  size_t done = 0, from = 0, begin = 0, end = 0;
  int index = 0;
  while (!set.empty() && set.find(text, from, begin, end, index)) {
    from = end;
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    if (token.special && !parse_special) continue;
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    if (token.left_strip) begin = std::max(skip_spaces_left(text, begin), done);
    if (token.right_strip) end = skip_spaces_right(text, end);
    end = std::max(begin, end);
    if (done < begin) spans.push_back({done, begin, -1});
    spans.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) spans.push_back({done, text.size(), -1});
}

}  // namespace kvasir::text
