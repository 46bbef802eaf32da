#include "text/normalizer.h"

#include <algorithm>

#include "text/unicode.h"

namespace kvasir::text {

namespace {

constexpr int kMaxDepth = 16;

// A step that maps every character on its own: the characters from the origin stay in front.
template <class Map>
void map_characters(NormalizedText& value, Map&& map) {
  std::string out;
  out.reserve(value.text.size() + value.text.size() / 8);
  size_t origin = 0;
  for (size_t at = 0; at < value.text.size();) {
    const size_t begin = at;
    map(next_code_point(value.text, at), out);
    if (begin < value.origin_bytes) origin = out.size();
  }
  value.text = std::move(out);
  value.origin_bytes = origin;
}

class Unicode final : public NormalizerStep {
 public:
  explicit Unicode(NormalizationForm form) : form_(form) {}
  void apply(NormalizedText& value) const override {
    if (is_ascii(value.text)) return;
    const std::string_view origin = std::string_view(value.text).substr(0, value.origin_bytes);
    const size_t origin_bytes = normalize_unicode(origin, form_).size();
    value.text = normalize_unicode(value.text, form_);
    value.origin_bytes = std::min(origin_bytes, value.text.size());
  }

 private:
  NormalizationForm form_;
};

class Lowercase final : public NormalizerStep {
 public:
  void apply(NormalizedText& value) const override { map_characters(value, append_lowercase); }
};

class StripAccents final : public NormalizerStep {
 public:
  void apply(NormalizedText& value) const override {
    if (is_ascii(value.text)) return;
    map_characters(value, [](char32_t c, std::string& out) {
      if (!is_mark(c)) append_utf8(c, out);
    });
  }
};

class ByteLevel final : public NormalizerStep {
 public:
  void apply(NormalizedText& value) const override {
    map_characters(value, [](char32_t c, std::string& out) {
      std::string bytes;
      append_utf8(c, bytes);
      for (const char byte : bytes) append_utf8(byte_to_char(static_cast<uint8_t>(byte)), out);
    });
  }
};

class Prepend final : public NormalizerStep {
 public:
  explicit Prepend(std::string text) : text_(std::move(text)) {}
  void apply(NormalizedText& value) const override {
    if (value.text.empty()) return;
    value.text.insert(0, text_);
    if (value.origin_bytes > 0) value.origin_bytes += text_.size();
  }

 private:
  std::string text_;
};

class Strip final : public NormalizerStep {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(NormalizedText& value) const override {
    const std::string_view text = value.text;
    size_t begin = 0, end = text.size();
    while (left_ && begin < end) {
      size_t next = begin;
      if (!is_whitespace(next_code_point(text, next))) break;
      begin = next;
    }
    while (right_ && end > begin) {
      size_t previous = end;
      if (!is_whitespace(previous_code_point(text, previous))) break;
      end = previous;
    }
    const size_t origin = value.origin_bytes > begin ? value.origin_bytes - begin : 0;
    value.text = value.text.substr(begin, end - begin);
    value.origin_bytes = std::min(origin, value.text.size());
  }

 private:
  bool left_, right_;
};

class Replace final : public NormalizerStep {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(NormalizedText& value) const override {
    Pattern::Matches matches(pattern_, value.text);
    size_t begin = 0, end = 0, copied = 0, origin = 0;
    std::string out;
    while (matches.next(begin, end)) {
      if (out.empty()) out.reserve(value.text.size() + value.text.size() / 4);
      if (copied < value.origin_bytes) {
        origin = out.size() + std::min(begin, value.origin_bytes) - copied;
      }
      out.append(value.text, copied, begin - copied);
      out.append(content_);
      check_growth(out.size(), value.original_bytes);
      if (end <= value.origin_bytes) origin = out.size();
      copied = end;
    }
    if (copied == 0 && out.empty()) return;
    if (copied < value.origin_bytes) origin = out.size() + value.origin_bytes - copied;
    out.append(value.text, copied);
    value.text = std::move(out);
    value.origin_bytes = origin;
  }

 private:
  Pattern pattern_;
  std::string content_;
};

}  // namespace

Normalizer Normalizer::parse(const JsonNode& node) {
  Normalizer normalizer;
  if (!node.is_null()) normalizer.append(node, 0);
  return normalizer;
}

void Normalizer::append(const JsonNode& node, int depth) {
  if (depth > kMaxDepth) node.malformed("at most 16 nested sequences");
  const std::string& type = node.string("type");
  const auto add = [&](auto step) {
    steps_.push_back(std::make_shared<const decltype(step)>(std::move(step)));
  };
  if (type == "Sequence") {
    const JsonNode list = node.at("normalizers");
    for (size_t i = 0; i < list.size(); ++i) append(list.at(i), depth + 1);
  } else if (type == "NFC") {
    add(Unicode(NormalizationForm::kNfc));
  } else if (type == "NFD") {
    add(Unicode(NormalizationForm::kNfd));
  } else if (type == "NFKC") {
    add(Unicode(NormalizationForm::kNfkc));
  } else if (type == "NFKD") {
    add(Unicode(NormalizationForm::kNfkd));
  } else if (type == "Lowercase") {
    add(Lowercase());
  } else if (type == "StripAccents") {
    add(StripAccents());
  } else if (type == "ByteLevel") {
    add(ByteLevel());
  } else if (type == "Prepend") {
    add(Prepend(node.string("prepend")));
  } else if (type == "Strip") {
    add(Strip(node.boolean("strip_left"), node.boolean("strip_right")));
  } else if (type == "Replace") {
    add(Replace(parse_pattern(node.at("pattern")), node.string("content")));
  } else {
    node.unsupported(type,
                     "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, ByteLevel, Prepend, "
                     "Strip, Replace");
  }
}

NormalizedText Normalizer::apply(std::string_view text, bool at_origin) const {
  NormalizedText value{std::string(text), 0, text.size()};
  if (at_origin && !text.empty()) value.origin_bytes = static_cast<size_t>(utf8_size(text[0]));
  for (const auto& step : steps_) {
    step->apply(value);
    check_growth(value.text.size(), text.size());
  }
  return value;
}

}  // namespace kvasir::text
