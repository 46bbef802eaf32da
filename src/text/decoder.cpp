#include "text/decoder.h"

#include <algorithm>
#include <charconv>

#include "text/unicode.h"
#include "text/unicode_pattern.h"

namespace kvasir::text {

namespace {

constexpr int kMaxDepth = 16;
constexpr size_t kMaxStages = 64;  // each is a level of recursion
constexpr size_t kMaxGrowth = 64;  // of text, by all stages together
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// The end of every chain.
class Output final : public DecodeStage {
 public:
  explicit Output(std::string& out) : out_(out) {}
  void push(DecodeItem item) override { out_.append(item.text); }
  void finish() override {}

 private:
  std::string& out_;
};

// No decoder: tokens with spaces between them.
class Spaces final : public DecodeStage {
 public:
  void push(DecodeItem item) override {
    if (!is_first_) next_->push({" ", true});
    is_first_ = false;
    next_->push(item);
  }
  void finish() override {
    is_first_ = true;
    next_->finish();
  }

 private:
  bool is_first_ = true;
};

class Fuse final : public DecodeStage {
 public:
  void push(DecodeItem item) override {
    next_->push({item.text, is_first_});
    is_first_ = false;
  }
  void finish() override {
    is_first_ = true;
    next_->finish();
  }

 private:
  bool is_first_ = true;
};

// Gives a stage that needs whole tokens the one token of a fused text, at the end.
class Gather final : public DecodeStage {
 public:
  void push(DecodeItem item) override {
    text_.append(item.text);
    any_ = true;
  }
  void finish() override {
    if (any_) next_->push({text_, true});
    text_.clear();
    any_ = false;
    next_->finish();
  }

 private:
  std::string text_;
  bool any_ = false;
};

// Characters of the byte alphabet to bytes; a token with any other character stands for itself.
// The bytes are one text, with U+FFFD for what is not UTF-8.
class ByteLevel final : public DecodeStage {
 public:
  void push(DecodeItem item) override {
    const size_t before = bytes_.size();
    for (size_t at = 0; at < item.text.size();) {
      const int byte = char_to_byte(next_code_point(item.text, at));
      if (byte < 0) {
        bytes_.resize(before);
        bytes_.append(item.text);
        break;
      }
      bytes_.push_back(static_cast<char>(byte));
    }
    const size_t ready = bytes_.size() - incomplete_utf8_tail(bytes_);
    flush(ready);
  }
  void finish() override {
    flush(bytes_.size());
    is_first_ = true;
    next_->finish();
  }

 private:
  void flush(size_t size) {
    if (size == 0) return;
    const std::string_view ready = std::string_view(bytes_).substr(0, size);
    if (is_valid_utf8(ready)) {
      next_->push({ready, is_first_});
    } else {
      next_->push({to_valid_utf8(ready), is_first_});
    }
    is_first_ = false;
    bytes_.erase(0, size);
  }

  std::string bytes_;
  bool is_first_ = true;
};

// Runs of tokens "<0xHH>" to the text of their bytes, or to one U+FFFD a byte where that is not
// UTF-8.
class ByteFallback final : public DecodeStage {
 public:
  void push(DecodeItem item) override {
    uint8_t byte = 0;
    if (is_byte(item.text, byte)) return bytes_.push_back(static_cast<char>(byte));
    flush();
    next_->push(item);
  }
  void finish() override {
    flush();
    next_->finish();
  }

 private:
  static bool is_byte(std::string_view token, uint8_t& byte) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return false;
    // One sign is allowed, as the reference's number parser allows it.
    const char* begin = token.data() + (token[3] == '+' ? 4 : 3);
    const auto [end, error] = std::from_chars(begin, token.data() + 5, byte, 16);
    return error == std::errc() && end == token.data() + 5;
  }

  void flush() {
    if (bytes_.empty()) return;
    if (is_valid_utf8(bytes_)) {
      next_->push({bytes_, true});
    } else {
      for (size_t i = 0; i < bytes_.size(); ++i) next_->push({kReplacement, true});
    }
    bytes_.clear();
  }

  std::string bytes_;
};

// Replaces in each token; the pieces of a fused text come gathered.
class Replace final : public DecodeStage {
 public:
  Replace(const Pattern& pattern, std::string_view content)
      : pattern_(pattern), content_(content) {}
  void push(DecodeItem item) override {
    std::string out;
    Pattern::Matches matches(pattern_, item.text);
    size_t begin = 0, end = 0, copied = 0;
    while (matches.next(begin, end)) {
      out.append(item.text.substr(copied, begin - copied)).append(content_);
      copied = end;
    }
    out.append(item.text.substr(copied));
    next_->push({out, item.begins_token});
  }
  void finish() override { next_->finish(); }

 private:
  const Pattern& pattern_;
  std::string_view content_;
};

// Marks to spaces; those of the first token vanish where the encoder may have put one there.
class Metaspace final : public DecodeStage {
 public:
  Metaspace(std::string_view mark, bool drops_first) : mark_(mark), drops_first_(drops_first) {}
  void push(DecodeItem item) override {
    if (item.begins_token) ++tokens_;
    const bool drops = drops_first_ && tokens_ == 1;
    std::string out;
    for (size_t at = 0; at < item.text.size();) {
      if (item.text.substr(at).starts_with(mark_)) {
        if (!drops) out.push_back(' ');
        at += mark_.size();
      } else {
        out.push_back(item.text[at++]);
      }
    }
    next_->push({out, item.begins_token});
  }
  void finish() override {
    tokens_ = 0;
    next_->finish();
  }

 private:
  std::string_view mark_;
  bool drops_first_;
  int64_t tokens_ = 0;
};

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  size_t found = text.find(from);
  if (found == std::string::npos) return;
  std::string out;
  size_t copied = 0;
  for (; found != std::string::npos; found = text.find(from, copied)) {
    out.append(text, copied, found - copied).append(to);
    copied = found + from.size();
  }
  text = out.append(text, copied);
}

// Takes back what tokenizers of English put spaces around.
void clean_up(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

// Tokens that continue a word lose their prefix, the others get a space before them.
class WordPiece final : public DecodeStage {
 public:
  WordPiece(std::string_view prefix, bool cleans) : prefix_(prefix), cleans_(cleans) {}
  void push(DecodeItem item) override {
    std::string text(item.text);
    if (!is_first_) {
      if (text.starts_with(prefix_)) {
        text.erase(0, prefix_.size());
      } else {
        text.insert(0, 1, ' ');
      }
    }
    is_first_ = false;
    if (cleans_) clean_up(text);
    next_->push({text, true});
  }
  void finish() override {
    is_first_ = true;
    next_->finish();
  }

 private:
  std::string_view prefix_;
  bool cleans_;
  bool is_first_ = true;
};

// Repeats of a token and the padding vanish (Graves et al. 2006).
class Ctc final : public DecodeStage {
 public:
  Ctc(std::string_view padding, std::string_view delimiter, bool cleans)
      : padding_(padding), delimiter_(delimiter), cleans_(cleans) {}
  void push(DecodeItem item) override {
    if (!is_first_ && item.text == previous_) return;
    is_first_ = false;
    previous_ = item.text;
    std::string text = previous_;
    if (!padding_.empty()) replace_all(text, padding_, "");
    if (cleans_) {
      clean_up(text);
      replace_all(text, delimiter_, " ");
    }
    if (!text.empty()) next_->push({text, true});
  }
  void finish() override {
    is_first_ = true;
    next_->finish();
  }

 private:
  std::string_view padding_, delimiter_;
  bool cleans_;
  bool is_first_ = true;
  std::string previous_;
};

// Takes up to `start` marks from the front and up to `stop` from the back of each token.
class Strip final : public DecodeStage {
 public:
  Strip(std::string_view mark, size_t start, size_t stop)
      : mark_(mark), start_(start), stop_(stop) {}
  void push(DecodeItem item) override {
    if (item.begins_token) {
      held_ = 0;  // the marks at the end of the token before: stripped
      left_ = start_;
    }
    std::string_view text = item.text;
    while (left_ > 0 && text.starts_with(mark_)) {
      text.remove_prefix(mark_.size());
      --left_;
    }
    if (!text.empty()) left_ = 0;
    // Marks at the end may turn out to be the last ones: hold back up to `stop` of them.
    std::string out;
    size_t trailing = 0;
    while (text.size() >= (trailing + 1) * mark_.size() &&
           text.substr(0, text.size() - trailing * mark_.size()).ends_with(mark_)) {
      ++trailing;
    }
    const size_t body = text.size() - trailing * mark_.size();
    if (body > 0) {
      release(held_, out);
      out.append(text.substr(0, body));
    }
    held_ += trailing;
    if (held_ > stop_) release(held_ - stop_, out);
    next_->push({out, item.begins_token});
  }
  void finish() override {
    held_ = 0;
    left_ = start_;
    next_->finish();
  }

 private:
  void release(size_t marks, std::string& out) {
    for (size_t i = 0; i < marks; ++i) out.append(mark_);
    held_ -= marks;
  }

  std::string_view mark_;
  size_t start_, stop_, left_ = 0, held_ = 0;
};

std::string one_character(const JsonNode& node, std::string_view key) {
  std::string text;
  append_utf8(node.character(key), text);
  return text;
}

}  // namespace

class Decoder::Recipe {
 public:
  virtual ~Recipe() = default;
  virtual std::unique_ptr<DecodeStage> make() const = 0;
};

template <class Make>
void Decoder::add(Make make) {
  class Made final : public Recipe {
   public:
    explicit Made(Make make) : make_(std::move(make)) {}
    std::unique_ptr<DecodeStage> make() const override { return make_(); }

   private:
    Make make_;
  };
  recipes_.push_back(std::make_shared<const Made>(std::move(make)));
}

Decoder Decoder::parse(const JsonNode& node) {
  Decoder decoder;
  if (node.is_null()) {
    decoder.add([] { return std::make_unique<Spaces>(); });
  } else {
    decoder.append(node, 0);
  }
  return decoder;
}

// Decoding never fails: what could grow text without bound is refused here.
void Decoder::limit_growth(const JsonNode& replace) {
  const size_t content = replace.string("content").size();
  const JsonNode pattern = replace.at("pattern");
  const size_t matched = pattern.has("String") ? pattern.string("String").size() : 0;
  // The most that a byte becomes; an expression may match between all bytes.
  growth_ *= matched == 0 ? 1 + content : std::max<size_t>(1, (content + matched - 1) / matched);
  if (growth_ > kMaxGrowth)
    replace.malformed("replacements that make text at most 64 times larger");
}

void Decoder::append(const JsonNode& node, int depth) {
  if (depth > kMaxDepth) node.malformed("at most 16 nested sequences");
  if (recipes_.size() >= kMaxStages) node.malformed("at most 64 decoders");
  const std::string& type = node.string("type");
  const auto need_whole_tokens = [&] {
    if (is_fused_) add([] { return std::make_unique<Gather>(); });
    is_fused_ = false;  // one token, but a whole one
  };
  if (type == "Sequence") {
    const JsonNode list = node.at("decoders");
    for (size_t i = 0; i < list.size(); ++i) append(list.at(i), depth + 1);
  } else if (type == "ByteLevel") {
    need_whole_tokens();
    add([] { return std::make_unique<ByteLevel>(); });
    is_fused_ = true;
  } else if (type == "ByteFallback") {
    need_whole_tokens();
    add([] { return std::make_unique<ByteFallback>(); });
  } else if (type == "Fuse") {
    add([] { return std::make_unique<Fuse>(); });
    is_fused_ = true;
  } else if (type == "Replace") {
    need_whole_tokens();
    limit_growth(node);
    add([pattern = parse_pattern(node.at("pattern")), content = node.string("content")] {
      return std::make_unique<Replace>(pattern, content);
    });
  } else if (type == "Strip") {
    constexpr int64_t kMost = 1 << 20;
    add([mark = one_character(node, "content"),
         start = static_cast<size_t>(node.integer("start", 0, kMost)),
         stop = static_cast<size_t>(node.integer("stop", 0, kMost))] {
      return std::make_unique<Strip>(mark, start, stop);
    });
  } else if (type == "Metaspace") {
    const std::string scheme = node.string_or(
        "prepend_scheme", node.boolean_or("add_prefix_space", true) ? "always" : "never");
    add([mark = one_character(node, "replacement"), drops = scheme != "never"] {
      return std::make_unique<Metaspace>(mark, drops);
    });
  } else if (type == "WordPiece") {
    need_whole_tokens();
    add([prefix = node.string("prefix"), cleans = node.boolean("cleanup")] {
      return std::make_unique<WordPiece>(prefix, cleans);
    });
  } else if (type == "CTC") {
    need_whole_tokens();
    const std::string& delimiter = node.string("word_delimiter_token");
    if (delimiter.empty()) node.malformed("a word_delimiter_token that is not empty");
    add([padding = node.string("pad_token"), delimiter, cleans = node.boolean("cleanup")] {
      return std::make_unique<Ctc>(padding, delimiter, cleans);
    });
  } else {
    node.unsupported(type,
                     "Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, "
                     "WordPiece, CTC");
  }
}

Decoder::Run::Run(const Decoder& decoder, std::string& out) {
  for (const auto& recipe : decoder.recipes_) stages_.push_back(recipe->make());
  stages_.push_back(std::make_unique<Output>(out));
  for (size_t i = 0; i + 1 < stages_.size(); ++i) stages_[i]->set_next(stages_[i + 1].get());
}

}  // namespace kvasir::text
