#include "text/byte_trie.h"

#include <algorithm>

namespace kvasir::text {

ByteTrie ByteTrie::build(std::vector<std::pair<std::string_view, int32_t>> texts) {
  std::erase_if(texts, [](const auto& text) { return text.first.empty(); });
  std::ranges::sort(texts);
  ByteTrie trie;
  trie.nodes_.emplace_back();
  trie.bytes_.push_back(0);
  // Node i stands for the texts [begin, end), which share their first `depth` bytes.
  struct Range {
    uint32_t begin, end, depth;
  };
  std::vector<Range> ranges{{0, static_cast<uint32_t>(texts.size()), 0}};
  for (uint32_t node = 0; node < trie.nodes_.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    if (begin < end && texts[begin].first.size() == depth) {
      trie.nodes_[node].value = texts[begin++].second;
    }
    trie.nodes_[node].first = static_cast<uint32_t>(trie.nodes_.size());
    while (begin < end) {
      const char byte = texts[begin].first[depth];
      const uint32_t first = begin;
      while (begin < end && texts[begin].first[depth] == byte) ++begin;
      trie.nodes_.emplace_back();
      trie.bytes_.push_back(static_cast<uint8_t>(byte));
      ranges.push_back({first, begin, depth + 1});
      ++trie.nodes_[node].count;
    }
  }
  for (Node& node : trie.nodes_) {
    if (node.count <= kMostListed) continue;
    const size_t table = trie.tables_.size();
    trie.tables_.resize(table + 256, kNone);
    for (uint32_t child = node.first; child < node.first + node.count; ++child) {
      trie.tables_[table + trie.bytes_[child]] = child;
    }
    node.first = static_cast<uint32_t>(table);
  }
  return trie;
}

}  // namespace kvasir::text
