#pragma once
// A set of texts with values, searched for by their first bytes.

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace kvasir::text {

// Immutable. The children of a node are neighbours, sorted by byte; a level is behind the one
// above.
class ByteTrie {
 public:
  // Every text of the list once, values from 0; an empty text is left out.
  static ByteTrie build(std::vector<std::pair<std::string_view, int32_t>> texts);

  static constexpr uint32_t kRoot = 0;
  static constexpr uint32_t kNone = UINT32_MAX;

  // The node that `byte` leads to, or kNone.
  uint32_t child(uint32_t node, char byte) const {
    const Node& parent = nodes_[node];
    const auto sought = static_cast<uint8_t>(byte);
    if (parent.count > kMostListed) return tables_[parent.first + sought];
    for (uint32_t child = parent.first; child < parent.first + parent.count; ++child) {
      if (bytes_[child] == sought) return child;
    }
    return kNone;
  }
  // The value of the text that ends at `node`; -1 if none does.
  int32_t value(uint32_t node) const { return nodes_[node].value; }

 private:
  static constexpr uint32_t kMostListed = 8;
  struct Node {
    uint32_t first = 0;  // of its children; where they are more than kMostListed, of its table
    uint32_t count = 0;
    int32_t value = -1;
  };
  std::vector<Node> nodes_;
  std::vector<uint8_t> bytes_;    // that lead to each node
  std::vector<uint32_t> tables_;  // 256 children each
};

}  // namespace kvasir::text
