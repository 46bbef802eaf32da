#include "text/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "kvasir/error.h"
#include "text/unicode.h"

namespace kvasir::text {

namespace {

constexpr double kUnknownPenalty = 10;

}  // namespace

std::unique_ptr<const UnigramModel> UnigramModel::parse(const JsonNode& node) {
  auto model = std::make_unique<UnigramModel>();
  model->read_vocabulary(node.at("vocab"));
  model->byte_fallback_ = node.boolean_or("byte_fallback", false);
  const auto size = static_cast<int64_t>(model->scores_.size());
  model->unknown_ = static_cast<TokenId>(node.integer("unk_id", 0, size - 1));
  for (unsigned byte = 0; byte < 256; ++byte) {
    model->fallback_[byte] = model->vocabulary_.find(fmt::format("<0x{:02X}>", byte));
  }
  return model;
}

void UnigramModel::read_vocabulary(const JsonNode& node) {
  const size_t count = node.size();
  if (count == 0 || count > static_cast<size_t>(kMaxTokenId)) node.malformed("1 to 4194303 tokens");
  scores_.reserve(count);
  double lowest = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < count; ++i) {
    const Json& entry = node.value()[i];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      node.at(i).malformed("[token, score]");
    }
    scores_.push_back(twice_rounded(entry[1].get<double>()));
    lowest = std::min(lowest, scores_.back());
  }
  unknown_score_ = lowest - kUnknownPenalty;
  // Where a token stands twice, the later one is found.
  std::vector<std::pair<std::string_view, int32_t>> texts;
  for (size_t i = count; i-- > 0;) {
    const auto id = static_cast<TokenId>(i);
    const std::string_view text = node.value()[i][0].get_ref<const std::string&>();
    if (vocabulary_.insert(text, id)) {
      texts.emplace_back(text, id);
    } else {
      vocabulary_.insert_shadowed(text, id);
    }
  }
  trie_ = ByteTrie::build(std::move(texts));
}

// Viterbi over the places of the word. Where no token reaches across a place, the way to it is
// settled: its tokens are given out and the memory of what lies before is used anew.
void UnigramModel::encode_new(std::string_view word, ModelScratch& memory,
                              std::vector<TokenId>& out) const {
  auto& scratch = static_cast<UnigramScratch&>(memory);
  auto& places = scratch.places;
  UnknownRun unknown;
  size_t begin = 0;  // of the places; the last one is the farthest that a token reaches
  places.assign(1, {0.0, -1, 0});
  for (size_t at = 0; at < word.size();) {
    if (at > begin && at == begin + places.size() - 1) {
      emit(word, begin, scratch, unknown, out);
      places.assign(1, {places.back().score, -1, 0});
      begin = at;
    }
    const double score = places[at - begin].score;
    const auto consider = [&](size_t end, TokenId id, double token_score) {
      if (end - begin >= places.size()) places.resize(end - begin + 1, {0.0, -1, 0});
      UnigramScratch::Place& place = places[end - begin];
      // Of equal ways the first stays: the one whose last token is the longest.
      if (place.bytes != 0 && token_score + score <= place.score) return;
      place = {token_score + score, id, static_cast<uint32_t>(end - at)};
    };
    const size_t next = at + static_cast<size_t>(utf8_size(word[at]));
    bool is_known = false;
    uint32_t node = ByteTrie::kRoot;
    for (size_t end = at; end < word.size();) {
      node = trie_.child(node, word[end++]);
      if (node == ByteTrie::kNone) break;
      const TokenId id = trie_.value(node);
      if (id < 0) continue;
      consider(end, id, scores_[static_cast<size_t>(id)]);
      is_known = is_known || end == next;
    }
    if (!is_known) consider(next, unknown_, unknown_score_);
    at = next;
  }
  emit(word, begin, scratch, unknown, out);
  emit_unknown(word, unknown, out);
}

void UnigramModel::emit(std::string_view word, size_t begin, UnigramScratch& scratch,
                        UnknownRun& unknown, std::vector<TokenId>& out) const {
  auto& path = scratch.path;
  path.clear();
  for (size_t at = scratch.places.size() - 1; at > 0; at -= path.back().bytes) {
    path.push_back({scratch.places[at].id, scratch.places[at].bytes});
  }
  for (size_t i = path.size(); i-- > 0;) {
    const auto [id, bytes] = path[i];
    if (id == unknown_) {
      if (unknown.begin == unknown.end) unknown.begin = begin;
      unknown.end = begin + bytes;
    } else {
      emit_unknown(word, unknown, out);
      out.push_back(id);
    }
    begin += bytes;
  }
}

void UnigramModel::emit_unknown(std::string_view word, UnknownRun& unknown,
                                std::vector<TokenId>& out) const {
  if (unknown.begin == unknown.end) return;
  const std::string_view text = word.substr(unknown.begin, unknown.end - unknown.begin);
  unknown = {};
  // Together they may be a token after all.
  if (const TokenId id = vocabulary_.find(text); id >= 0) return out.push_back(id);
  const auto byte_id = [&](char byte) { return fallback_[static_cast<uint8_t>(byte)]; };
  if (byte_fallback_ && std::ranges::all_of(text, [&](char byte) { return byte_id(byte) >= 0; })) {
    for (const char byte : text) out.push_back(byte_id(byte));
    return;
  }
  out.push_back(unknown_);
}

double twice_rounded(double nearest) {
  // The shortest digits that name the double, as every common writer prints them: d.ddde-XX.
  char text[40];
  const auto [end, error] =
      std::to_chars(text, text + sizeof text, std::fabs(nearest), std::chars_format::scientific);
  uint64_t digits = 0;
  int exponent = 0;
  const char* at = text;
  for (bool is_fraction = false; *at != 'e'; ++at) {
    if (*at == '.') {
      is_fraction = true;
      continue;
    }
    digits = digits * 10 + static_cast<uint64_t>(*at - '0');
    if (is_fraction) --exponent;
  }
  int written = 0;
  std::from_chars(at[1] == '+' ? at + 2 : at + 1, end, written);
  exponent += written;
  // The power of ten is within 1e-341 and 1e308, each step correctly rounded.
  double value = static_cast<double>(digits);
  if (exponent < -308) {
    value /= 1e308;
    exponent += 308;
  }
  const std::string power_text = fmt::format("1e{}", std::abs(exponent));
  double power = 0;
  std::from_chars(power_text.data(), power_text.data() + power_text.size(), power);
  value = exponent >= 0 ? value * power : value / power;
  return std::signbit(nearest) ? -value : value;
}

}  // namespace kvasir::text
