#pragma once
// A set of texts with values, searched for by their first bytes.

#include <algorithm>
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
    const uint8_t* begin = bytes_.data() + parent.first;
    const uint8_t* end = begin + parent.count;
    const auto sought = static_cast<uint8_t>(byte);
    if (parent.count > 8) {
      const uint8_t* found = std::lower_bound(begin, end, sought);
      return found != end && *found == sought ? parent.first + static_cast<uint32_t>(found - begin)
                                              : kNone;
    }
    for (const uint8_t* at = begin; at < end; ++at) {
      if (*at == sought) return parent.first + static_cast<uint32_t>(at - begin);
    }
    return kNone;
  }
  // The value of the text that ends at `node`; -1 if none does.
  int32_t value(uint32_t node) const { return nodes_[node].value; }

 private:
  struct Node {
    uint32_t first = 0;  // of its children
    uint32_t count = 0;
    int32_t value = -1;
  };
  std::vector<Node> nodes_;
  std::vector<uint8_t> bytes_;  // that lead to each node
};

}  // namespace kvasir::text
