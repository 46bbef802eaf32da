// Compiled character maps: the normaliser `Precompiled`, alone and before a Metaspace that asks
// where the text begins.

#include "text/charsmap.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "text/parts.h"
#include "text/unicode.h"

namespace kvasir::text {
namespace {

void append_unit(uint32_t unit, std::string& bytes) {
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(unit >> shift));
}

// The bytes of a map. Each node of the trie has a block of 256 units for its children.
std::string compile(const std::map<std::string, std::string>& rules) {
  struct Node {
    std::map<uint8_t, uint32_t> children;
    int64_t value = -1;
  };
  std::vector<Node> nodes(1);
  std::string replacements;
  for (const auto& [key, value] : rules) {
    uint32_t node = 0;
    for (const char c : key) {
      const auto next = static_cast<uint32_t>(nodes.size());
      const auto [child, is_new] = nodes[node].children.emplace(static_cast<uint8_t>(c), next);
      const uint32_t reached = child->second;
      if (is_new) nodes.emplace_back();
      node = reached;
    }
    nodes[node].value = static_cast<int64_t>(replacements.size());
    replacements += value + '\0';
  }
  std::vector<uint32_t> units((nodes.size() + 1) * 256);
  const auto base = [](uint32_t node) { return 256 * (node + 1); };
  units[0] = base(0) << 10;
  for (uint32_t node = 0; node < nodes.size(); ++node) {
    for (const auto& [byte, child] : nodes[node].children) {
      const uint32_t at = base(node) ^ byte;
      const bool has_value = nodes[child].value >= 0;
      units[at] = (at ^ base(child)) << 10 | (has_value ? 1u << 8 : 0) | byte;
      if (has_value) units[base(child)] = 1u << 31 | static_cast<uint32_t>(nodes[child].value);
    }
  }
  std::string bytes;
  append_unit(static_cast<uint32_t>(units.size() * 4), bytes);
  for (const uint32_t unit : units) append_unit(unit, bytes);
  return bytes + replacements;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i)
      bits = bits << 8 | (at + i < bytes.size() ? static_cast<uint8_t>(bytes[at + i]) : 0);
    for (size_t i = 0; i < 4; ++i)
      out.push_back(at + i <= bytes.size() ? kDigits[bits >> (18 - 6 * i) & 63] : '=');
  }
  return out;
}

std::string json_of(std::string_view bytes) {
  return fmt::format(R"({{"type": "Precompiled", "precompiled_charsmap": "{}"}})", base64(bytes));
}

const std::string& map_json() {
  static const std::string json = json_of(compile({{"\x01", ""},
                                                   {"Ａ", "A"},
                                                   {"Ａ\u0301", "Á"},
                                                   {"e\u0301", "é"},
                                                   {"½", "1⁄2"},
                                                   {"\r", " "},
                                                   {"ab", "X"},
                                                   {"\u3000", " "}}));
  return json;
}

TEST(Charsmap, MapsCharactersAndShortClusters) {
  EXPECT_EQ(normalize(map_json(), "x\x01\u3000½"), "x 1⁄2");
  EXPECT_EQ(normalize(map_json(), "e\u0301e\u0300"), "ée\u0300");
  // What the map has for the beginning of a cluster stands for all of it.
  EXPECT_EQ(normalize(map_json(), "ＡＡ\u0301"), "AA");
  EXPECT_EQ(normalize(map_json(), "\r\nx\r"), " x ");
  // A cluster of six bytes or more goes by its characters; two clusters are never one text.
  EXPECT_EQ(normalize(map_json(), "Ａ\u0323\u0301"), "A\u0323\u0301");
  EXPECT_EQ(normalize(map_json(), "ab"), "ab");
  EXPECT_EQ(normalize(map_json(), std::string_view("\0Ａ", 4)), std::string_view("\0A", 2));
  EXPECT_EQ(normalize(map_json(), ""), "");
}

TEST(Charsmap, LeavesUnmappedTextAsItIs) {
  EXPECT_EQ(normalize(json_of(compile({{"~", "-"}})), "plain\r\nnaïve 漢字 👩‍👩‍👧"),
            "plain\r\nnaïve 漢字 👩‍👩‍👧");
}

// Which words count as the beginning of the text: what the first character became, and what stands
// in the place of a first character that vanished.
TEST(Charsmap, KnowsWhatStemsFromTheFirstCharacter) {
  const auto normalizer = parse_part<Normalizer>(map_json());
  const auto origin = [&](std::string_view text) {
    return normalizer.apply(text, true).origin_bytes;
  };
  EXPECT_EQ(origin("xy"), 1u);
  EXPECT_EQ(origin("½y"), 5u);        // 1⁄2
  EXPECT_EQ(origin("e\u0301y"), 2u);  // é
  EXPECT_EQ(origin("\x01xy"), 1u);    // x passes for what vanished
  EXPECT_EQ(origin("½\x01y"), 4u);    // the last character of 1⁄2 passes for it
  EXPECT_EQ(normalizer.apply("xy", false).origin_bytes, 0u);
}

TEST(Charsmap, DamagedMapsAreErrors) {
  const auto error = [](std::string_view json) {
    return error_of([&] { parse_part<Normalizer>(json); });
  };
  EXPECT_EQ(
      error(json_of("")),
      "test.precompiled_charsmap: expected a trie's size, the trie and its replacements, found "
      "\"\"; is the file damaged?");
  for (const std::string_view bytes :
       {std::string_view("\0\0\0\0", 4), std::string_view("\4\0\0\0abc", 7)})
    EXPECT_NE(error(json_of(bytes)).find("expected a trie's size"), std::string::npos);
  EXPECT_NE(error(json_of(std::string_view("\4\0\0\0abcd\xFF", 9))).find("replacements in UTF-8"),
            std::string::npos);
  EXPECT_NE(
      error(R"({"type": "Precompiled", "precompiled_charsmap": "AAA"})").find("groups of four"),
      std::string::npos);
  EXPECT_NE(error(R"({"type": "Precompiled", "precompiled_charsmap": "AA-A"})").find("the digits"),
            std::string::npos);
  EXPECT_NE(error(R"({"type": "Precompiled"})").find("\"precompiled_charsmap\""),
            std::string::npos);
}

// Whatever the trie says: no read out of bounds, valid text, and the same again.
TEST(Charsmap, DamagedTriesAreHarmless) {
  std::mt19937 random(11);
  std::string text;
  for (char32_t c = 1; c < 0x3100; c += 7) append_utf8(c, text);
  for (int round = 0; round < 300; ++round) {
    SCOPED_TRACE(round);
    std::string bytes = compile({{"a", "é"}, {"é", "漢"}, {"ü", ""}});
    for (int i = 0; i < 200; ++i)
      bytes[4 + random() % (bytes.size() - 12)] = static_cast<char>(random());
    const std::string json = json_of(bytes);
    std::string out;
    if (!error_of([&] { out = normalize(json, text); }).empty()) continue;
    EXPECT_TRUE(is_valid_utf8(out));
    EXPECT_EQ(normalize(json, text), out);
  }
}

TEST(Charsmap, RefusesToGrowTextWithoutBound) {
  const std::string json = json_of(compile({{"a", std::string(10'000, 'b')}}));
  EXPECT_THROW(normalize(json, std::string(1000, 'a')), Error);
}

}  // namespace
}  // namespace kvasir::text
