#include "kv/compacted_store.h"

#include <algorithm>
#include <string>

#include "base/check.h"

namespace kvasir::kv {

void CompactedStore::keep(Domain domain, std::span<const TokenId> tokens,
                          const CompactedPages& pages) {
  for (const auto& [use, entry] : by_use_)
    if (entry.domain == domain && std::ranges::equal(entry.tokens, tokens)) return touch(entry);
  Entry entry{.domain = domain, .tokens = {tokens.begin(), tokens.end()}, .pages = {}};
  entry.pages.stored = pages.stored;
  std::vector<BlockIndex>& blocks = entry.pages.blocks;
  for (size_t layer = 0; layer < pages.stored.size(); ++layer) {
    const auto used = static_cast<size_t>(blocks_for(pages.stored[layer]));
    const auto table = std::span(pages.page_tables[layer]).first(used);
    entry.pages.page_tables.emplace_back(table.begin(), table.end());
    for (const uint32_t page : table) blocks.push_back(cache_.pool().block_of(page));
  }
  std::ranges::sort(blocks);
  blocks.erase(std::ranges::unique(blocks).begin(), blocks.end());
  for (const BlockIndex block : blocks) cache_.hold(block);
  by_use_.emplace(cache_.tick(), std::move(entry));
}

const CompactedStore::Entry* CompactedStore::find(Domain domain,
                                                  std::span<const TokenId> prompt) const {
  const Entry* best = nullptr;
  for (const auto& [use, entry] : by_use_)
    if (entry.domain == domain && entry.tokens.size() < prompt.size() &&
        (!best || entry.tokens.size() > best->tokens.size()) &&
        std::ranges::equal(entry.tokens, prompt.first(entry.tokens.size())))
      best = &entry;
  return best;
}

void CompactedStore::touch(const Entry& entry) {
  const auto place =
      std::ranges::find(by_use_, &entry, [](const Uses::value_type& each) { return &each.second; });
  auto node = by_use_.extract(place);
  node.key() = cache_.tick();
  by_use_.insert(std::move(node));
}

void CompactedStore::evict() {
  KVASIR_CHECK(!by_use_.empty());
  for (const BlockIndex block : by_use_.begin()->second.pages.blocks) cache_.drop_hold(block);
  by_use_.erase(by_use_.begin());
}

void CompactedStore::check_invariants() const {
  std::map<BlockIndex, uint32_t> holds;
  for (const auto& [use, entry] : by_use_) {
    for (const BlockIndex block : entry.pages.blocks) ++holds[block];
    for (size_t layer = 0; layer < entry.pages.page_tables.size(); ++layer) {
      const auto& table = entry.pages.page_tables[layer];
      KVASIR_CHECK(std::ssize(table) == blocks_for(entry.pages.stored[layer]));
      for (const uint32_t page : table)
        KVASIR_CHECK(std::ranges::binary_search(entry.pages.blocks, cache_.pool().block_of(page)));
    }
  }
  for (int64_t block = 0; block < cache_.pool().total(); ++block) {
    const auto index = static_cast<BlockIndex>(block);
    const auto counted = holds.find(index);
    KVASIR_CHECK(cache_.holds(index) == (counted == holds.end() ? 0 : counted->second),
                 "holds of block " + std::to_string(block) + " are miscounted");
  }
}

}  // namespace kvasir::kv
