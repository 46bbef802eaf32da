#pragma once
// Whether a text is well-formed XML: elements closed in order, attributes quoted and told apart,
// entities known, characters allowed. Of HTML it takes what page.h writes: the doctype, elements
// without an end, raw text in style and script.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"

namespace kvasir::report {

class XmlCheck {
 public:
  explicit XmlCheck(std::string_view text) : text_(text) {}

  // The first fault, or nothing.
  std::string fault() {
    if (const auto bad = invalid_utf8_at(text_)) return at("no UTF-8", *bad);
    for (size_t i = 0; i < text_.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text_[i]);
      if (byte < 0x20 && byte != '\n' && byte != '\t') return at("a control character", i);
    }
    if (text_.starts_with("<!DOCTYPE html>\n")) {
      is_html_ = true;
      at_ = 16;
    }
    while (at_ < text_.size()) {
      const std::string found = text_[at_] == '<' ? tag() : text();
      if (!found.empty()) return found;
    }
    if (!open_.empty()) return "never closed: " + open_.back();
    return "";
  }

  int count(const std::string& name) const {
    return static_cast<int>(std::ranges::count(seen_, name));
  }

 private:
  static std::string at(const std::string& what, size_t place) {
    return what + " at byte " + std::to_string(place);
  }

  std::string text() {
    const size_t end = std::min(text_.find('<', at_), text_.size());
    const std::string_view piece = text_.substr(at_, end - at_);
    if (open_.empty() && piece.find_first_not_of(" \n\t") != std::string_view::npos)
      return at("text outside", at_);
    if (const auto bad = entities(piece); !bad.empty()) return bad;
    at_ = end;
    return "";
  }

  std::string entities(std::string_view piece) const {
    for (size_t i = piece.find('&'); i != std::string_view::npos; i = piece.find('&', i + 1)) {
      const size_t end = piece.find(';', i);
      static const std::set<std::string_view> kKnown{"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
      if (end == std::string_view::npos || !kKnown.contains(piece.substr(i, end + 1 - i)))
        return at("a stray &", at_ + i);
    }
    return "";
  }

  std::string tag() {
    const size_t begin = at_++;
    const bool is_end = at_ < text_.size() && text_[at_] == '/';
    at_ += is_end;
    const std::string name = word();
    if (name.empty()) return at("a stray <", begin);
    if (is_end) {
      if (open_.empty() || open_.back() != name) return at("closes another element", begin);
      open_.pop_back();
      return text_[at_++] == '>' ? "" : at("a long end tag", begin);
    }
    seen_.push_back(name);
    std::set<std::string> names;
    while (at_ < text_.size() && text_[at_] == ' ') {
      ++at_;
      const std::string attribute = word();
      if (attribute.empty() || text_.substr(at_, 2) != "=\"") return at("a bad attribute", at_);
      if (!names.insert(attribute).second) return at("an attribute twice", at_);
      const size_t end = text_.find('"', at_ + 2);
      if (end == std::string_view::npos) return at("an open attribute", at_);
      const std::string_view value = text_.substr(at_ + 2, end - at_ - 2);
      if (value.find('<') != std::string_view::npos) return at("< in an attribute", at_);
      if (const auto bad = entities(value); !bad.empty()) return bad;
      at_ = end + 1;
    }
    if (text_.substr(at_, 2) == "/>") {
      at_ += 2;
      return "";
    }
    if (text_[at_] != '>') return at("a tag without end", begin);
    ++at_;
    if (is_html_ && name == "meta") return "";
    open_.push_back(name);
    if (is_html_ && (name == "style" || name == "script")) at_ = text_.find("</" + name, at_);
    return "";
  }

  std::string word() {
    const size_t begin = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) ||
                                  text_[at_] == '-' || text_[at_] == ':'))
      ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  const std::string_view text_;
  size_t at_ = 0;
  bool is_html_ = false;
  std::vector<std::string> open_, seen_;
};

inline void expect_well_formed(std::string_view text) { EXPECT_EQ(XmlCheck(text).fault(), ""); }

}  // namespace kvasir::report
