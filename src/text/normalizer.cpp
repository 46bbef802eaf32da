#include "text/normalizer.h"

#include <algorithm>

#include "text/charsmap.h"
#include "text/unicode.h"
#include "text/unicode_sets.h"

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

// The same for a map that leaves ASCII as it is: what most text is.
template <class Map>
void map_beyond_ascii(NormalizedText& value, Map&& map) {
  if (is_ascii(value.text)) return;
  map_characters(value, [&](char32_t c, std::string& out) {
    if (c < 0x80) return out.push_back(static_cast<char>(c));
    map(c, out);
  });
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
    // What composes with the next character is longer than alone.
    while (value.origin_bytes < value.text.size() &&
           is_utf8_continuation(value.text[value.origin_bytes])) {
      ++value.origin_bytes;
    }
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
    map_beyond_ascii(value, [](char32_t c, std::string& out) {
      if (!is_mark(c)) append_utf8(c, out);
    });
  }
};

// SentencePiece's rule for translation models: controls vanish, white space of any kind is a space.
class Nmt final : public NormalizerStep {
 public:
  void apply(NormalizedText& value) const override {
    map_characters(value, [](char32_t c, std::string& out) {
      if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
          c == 0x9F) {
        return;
      }
      const bool is_space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                            (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                            c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      append_utf8(is_space ? U' ' : c, out);
    });
  }
};

// The parts of BertNormalizer that are no normalisers of their own.
class BertClean final : public NormalizerStep {
 public:
  void apply(NormalizedText& value) const override {
    map_characters(value, [](char32_t c, std::string& out) {
      if (c == '\t' || c == '\n' || c == '\r') return out.push_back(' ');
      if (c == 0xFFFD || is_control(c)) return;
      append_utf8(is_whitespace(c) ? U' ' : c, out);
    });
  }
};

class BertSpaceChinese final : public NormalizerStep {
 public:
  void apply(NormalizedText& value) const override {
    map_beyond_ascii(value, [](char32_t c, std::string& out) {
      const bool is_chinese = is_ideograph(c);
      if (is_chinese) out.push_back(' ');
      append_utf8(c, out);
      if (is_chinese) out.push_back(' ');
    });
  }

 private:
  // As the package `tokenizers` has it; the block from U+2B820 on is not among them.
  static bool is_ideograph(char32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
  }
};

class BertStripAccents final : public NormalizerStep {
 public:
  void apply(NormalizedText& value) const override {
    map_beyond_ascii(value, [](char32_t c, std::string& out) {
      if (!is_nonspacing_mark(c)) append_utf8(c, out);
    });
  }
};

// How far the text that a step writes stems from the first character, by the rules of the package
// `tokenizers`: it notes of each character written whether it takes the place of the next one read
// (or is put behind the last), and how many more are taken away with it.
class OriginTracker {
 public:
  OriginTracker(std::string_view read, size_t origin_bytes)
      : read_(read), read_origin_(origin_bytes), is_done_(origin_bytes == 0) {}

  // Nothing that is written from here on stems from the first character.
  bool is_done() const { return is_done_; }
  void write(size_t bytes, bool is_inserted) {
    settle();
    bytes_ = bytes;
    change_ = is_inserted ? 1 : 0;
  }
  // Goes to the account of the character written last; before the first one it is forgotten, so
  // that what follows passes for what was taken away.
  void take_away(int64_t characters) { change_ -= characters; }
  size_t finish() {
    settle();
    return origin_;
  }

 private:
  void settle() {
    if (is_done_ || bytes_ == 0) return;
    const size_t from = change_ > 0 && at_ > 0 ? at_ - 1 : at_;
    written_ += bytes_;
    if (from < read_origin_) origin_ = written_;
    for (; change_ <= 0 && at_ < read_.size(); ++change_) {
      at_ += static_cast<size_t>(utf8_size(read_[at_]));
    }
    bytes_ = 0;
    is_done_ = at_ > read_origin_;
  }

  std::string_view read_;
  size_t read_origin_, at_ = 0;
  size_t written_ = 0, origin_ = 0;
  size_t bytes_ = 0;    // of the character written last; 0: none yet
  int64_t change_ = 0;  // 1: inserted; else it replaces one character and takes -change_ more away
  bool is_done_;
};

class Precompiled final : public NormalizerStep {
 public:
  explicit Precompiled(Charsmap map) : map_(std::move(map)) {}

  void apply(NormalizedText& value) const override {
    const std::string_view text = value.text;
    OriginTracker origin(text, value.origin_bytes);
    std::string out;
    out.reserve(text.size() + text.size() / 8);
    for (size_t at = 0; at < text.size();) {
      size_t end = origin.is_done() ? plain_run(text, at) : at;
      if (end > at) {
        out.append(text, at, end - at);
      } else {
        end = grapheme_end(text, at);
        write_cluster(text.substr(at, end - at), out, origin);
      }
      at = end;
      check_growth(out.size(), value.original_bytes);
    }
    value.origin_bytes = origin.finish();
    value.text = std::move(out);
  }

 private:
  // The end of the ASCII characters from `at` on that stay as they are. Each is a cluster: an ASCII
  // character stands behind it, and it is no carriage return.
  size_t plain_run(std::string_view text, size_t at) const {
    while (at + 1 < text.size() && map_.keeps(text[at]) && (text[at + 1] & 0x80) == 0) ++at;
    return at;
  }

  // Short clusters are looked up as a whole, and give way to what the map has for their beginning;
  // odd, but so SentencePiece's models were converted.
  void write_cluster(std::string_view cluster, std::string& out, OriginTracker& origin) const {
    constexpr size_t kShort = 6;
    if (cluster.size() < kShort) {
      if (const auto mapped = map_.find(cluster)) return write(cluster, mapped, out, origin);
    }
    for (size_t at = 0; at < cluster.size();) {
      const size_t begin = at;
      next_code_point(cluster, at);
      const std::string_view character = cluster.substr(begin, at - begin);
      write(character, map_.find(character), out, origin);
    }
  }

  static void write(std::string_view read, std::optional<std::string_view> mapped, std::string& out,
                    OriginTracker& origin) {
    const std::string_view written = mapped.value_or(read);
    out.append(written);
    if (origin.is_done()) return;
    int64_t left = count_characters(read);
    for (size_t at = 0; at < written.size(); --left) {
      const size_t begin = at;
      next_code_point(written, at);
      origin.write(at - begin, left <= 0);
    }
    if (left > 0) origin.take_away(left);
  }

  static int64_t count_characters(std::string_view text) {
    return std::ranges::count_if(text, [](char byte) { return !is_utf8_continuation(byte); });
  }

  Charsmap map_;
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
  } else if (type == "Nmt") {
    add(Nmt());
  } else if (type == "Precompiled") {
    add(Precompiled(Charsmap::parse(node.at("precompiled_charsmap"))));
  } else if (type == "BertNormalizer") {
    const bool lowercase = node.boolean("lowercase");
    if (node.boolean("clean_text")) add(BertClean());
    if (node.boolean("handle_chinese_chars")) add(BertSpaceChinese());
    if (node.boolean_or("strip_accents", lowercase)) {
      add(Unicode(NormalizationForm::kNfd));
      add(BertStripAccents());
    }
    if (lowercase) add(Lowercase());
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
                     "Strip, Replace, Nmt, Precompiled, BertNormalizer");
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
