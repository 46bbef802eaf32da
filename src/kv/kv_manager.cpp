#include "kv/kv_manager.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "kv/block_cache.h"
#include "kv/compacted_store.h"
#include "kv/sequence.h"

namespace kvasir::kv {
namespace {

// What a prompt finds in the tree: whole blocks and, after them, leading positions of one more.
struct Match {
  std::vector<BlockIndex> full;
  PrefixTree::Partial tail;
  int64_t length() const { return std::ssize(full) * kBlockTokens + tail.length; }
};

Match find_match(const PrefixTree& tree, Domain domain, std::span<const TokenId> prompt) {
  Match match;
  if (prompt.empty()) return match;
  prompt = prompt.first(prompt.size() - 1);
  BlockIndex parent = kNoBlock;
  while (std::ssize(prompt) >= kBlockTokens) {
    const BlockIndex block = tree.find_full(domain, parent, prompt.first(kBlockTokens));
    if (block == kNoBlock) break;
    match.full.push_back(parent = block);
    prompt = prompt.subspan(kBlockTokens);
  }
  const size_t rest = std::min(prompt.size(), size_t{kBlockTokens});
  if (rest > 0) match.tail = tree.find_partial(domain, parent, prompt.first(rest));
  return match;
}

}  // namespace

struct KvManager::Impl {
  Impl(const KvGeometry& geometry, int64_t blocks, const PageMemoryFactory& allocate)
      : cache(geometry, blocks, allocate), store(cache) {}

  BlockCache cache;
  CompactedStore store;
  std::unordered_map<SequenceId, Sequence> sequences;
  SequenceId last_id = kNoSequence;

  Sequence& get(SequenceId id) {
    const auto it = sequences.find(id);
    if (it == sequences.end())
      throw Error(ErrorCode::kInvalidArgument,
                  "no sequence " + std::to_string(id) + "; was it released already?", "KV manager");
    return it->second;
  }
  std::pair<SequenceId, Sequence&> add(Domain domain) {
    while (++last_id == kNoSequence || sequences.contains(last_id)) {
    }
    Sequence& sequence = sequences[last_id];
    sequence.domain = domain;
    sequence.page_tables.resize(static_cast<size_t>(cache.pool().geometry().layers));
    return {last_id, sequence};
  }
  void share(Sequence& sequence, BlockIndex block) {
    cache.use(block);
    sequence.push_block(block, cache.pool());
  }
  void drop_last(SequenceId id, Sequence& sequence) {
    cache.leave(sequence.blocks.back(), id);
    sequence.pop_block();
  }

  // Precondition: cache.available() > 0.
  BlockIndex allocate(SequenceId owner) {
    while (cache.pool().free() == 0) {
      if (store.oldest() < cache.oldest_leaf())
        store.evict();
      else
        cache.evict();
    }
    return cache.allocate(owner);
  }
  // Pages of as many blocks more; errors as reserve().
  Result<void> add_pages(const Sequence& sequence, int64_t pages, std::vector<BlockIndex>& blocks,
                         std::vector<uint32_t>& spare);
  Result<void> reserve_compacted(SequenceId id, Sequence& sequence, int64_t new_length);
  void unshare_tails(SequenceId id, Sequence& sequence);
  void drop_unused(SequenceId id, Sequence& sequence);
  void drop_target(SequenceId id, Sequence& sequence);
  void compact(SequenceId id, Sequence& sequence, Domain compacted);
  void check_compacted(const std::string& name, const Sequence& sequence) const;

  bool can_append(SequenceId id, const Sequence& sequence) const;
  Result<void> reserve(SequenceId id, Sequence& sequence, int64_t new_length);
  void unshare_tail(SequenceId id, Sequence& sequence);
  void commit_within_block(SequenceId id, Sequence& sequence, std::span<const TokenId> tokens);
  void truncate(SequenceId id, Sequence& sequence, int64_t length);
  void truncate_compacted(SequenceId id, Sequence& sequence, int64_t length);
  void check_sequence(SequenceId id, const Sequence& sequence) const;
};

// Whether the partly filled last block ends where the sequence does and is no other's to append to.
bool KvManager::Impl::can_append(SequenceId id, const Sequence& sequence) const {
  const BlockIndex tail = sequence.blocks[sequence.length() / kBlockTokens];
  const SequenceId owner = cache.owner(tail);
  return (owner == id || owner == kNoSequence) &&
         cache.tree().count(tail) == sequence.tail_length();
}

Result<void> KvManager::Impl::reserve(SequenceId id, Sequence& sequence, int64_t new_length) {
  if (new_length <= sequence.reserved_length) return {};
  if (sequence.is_compacted()) return reserve_compacted(id, sequence, new_length);
  const bool must_unshare = sequence.tail_length() > 0 && !can_append(id, sequence);
  const int64_t more = blocks_for(new_length) - std::ssize(sequence.blocks);
  const int64_t available = cache.available();
  // The last resort of a sequence that is its tail's only user: forget the positions beyond.
  const bool copies =
      must_unshare && (available > more || cache.pool().references(sequence.blocks.back()) > 1);
  if (more + copies > available)
    return Error(ErrorCode::kResourceExhausted,
                 std::to_string(more + copies) + " more blocks of " + std::to_string(kBlockTokens) +
                     " positions are needed for a sequence of " + std::to_string(new_length) +
                     ", " + std::to_string(available) + " of " +
                     std::to_string(cache.pool().total()) +
                     " are available; wait for other sequences to end, or enlarge the KV pool",
                 "KV pool");
  if (copies) unshare_tail(id, sequence);
  while (std::ssize(sequence.blocks) < blocks_for(new_length))
    sequence.push_block(allocate(id), cache.pool());
  if (sequence.tail_length() > 0) {
    const BlockIndex tail = sequence.blocks[sequence.length() / kBlockTokens];
    // Everything cached has just been evicted, the tail's descendants included.
    if (must_unshare && !copies) cache.tree().shrink(tail, sequence.tail_length());
    cache.set_owner(tail, id);
  }
  sequence.reserved_length = new_length;
  return {};
}

void KvManager::Impl::unshare_tail(SequenceId id, Sequence& sequence) {
  const int64_t index = sequence.length() / kBlockTokens, count = sequence.tail_length();
  const BlockIndex shared = sequence.blocks[index], own = allocate(id);
  cache.pool().copy(shared, own, count);
  cache.tree().insert(own, sequence.domain, sequence.parent_of(index),
                      std::span(sequence.tokens).last(count));
  sequence.replace_block(index, own, cache.pool());
  cache.leave(shared, id);
}

void KvManager::Impl::commit_within_block(SequenceId id, Sequence& sequence,
                                          std::span<const TokenId> tokens) {
  PrefixTree& tree = cache.tree();
  const int64_t index = sequence.length() / kBlockTokens;
  const BlockIndex block = sequence.blocks[index], parent = sequence.parent_of(index);
  KVASIR_DCHECK(cache.owner(block) == id && tree.count(block) == sequence.tail_length());
  sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
  if (sequence.tail_length() == 0) {
    const BlockIndex same =
        tree.find_full(sequence.domain, parent, std::span(sequence.tokens).last(kBlockTokens));
    if (same != kNoBlock) {
      cache.use(same);
      sequence.replace_block(index, same, cache.pool());
      cache.leave(block, id);
      return;
    }
    cache.set_owner(block, kNoSequence);  // full: nobody appends any more
  }
  if (tree.contains(block)) {
    tree.extend(block, tokens);
  } else {
    tree.insert(block, sequence.domain, parent, tokens);
  }
}

Result<void> KvManager::Impl::add_pages(const Sequence& sequence, int64_t pages,
                                        std::vector<BlockIndex>& blocks,
                                        std::vector<uint32_t>& spare) {
  const BlockPool& pool = cache.pool();
  const int64_t layers = pool.geometry().layers;
  const int64_t more = (std::max<int64_t>(0, pages - std::ssize(spare)) + layers - 1) / layers;
  if (more > cache.available())
    return Error(ErrorCode::kResourceExhausted,
                 std::to_string(more) + " more blocks are needed for the evicted KV of " +
                     std::to_string(sequence.length()) + " tokens, " +
                     std::to_string(cache.available()) + " of " + std::to_string(pool.total()) +
                     " are available; wait for other sequences to end, or enlarge the KV pool",
                 "KV pool");
  for (int64_t i = 0; i < more; ++i) {
    const BlockIndex block = allocate(kNoSequence);
    blocks.push_back(block);
    for (int layer = static_cast<int>(layers); layer-- > 0;)
      spare.insert(spare.begin(), pool.page(block, layer));
  }
  return {};
}

// Entries of a page that others share may be read, not followed by new ones.
Result<void> KvManager::Impl::reserve_compacted(SequenceId id, Sequence& sequence,
                                                int64_t new_length) {
  const int64_t more = new_length - sequence.length();
  int64_t pages = 0;
  for (size_t layer = 0; layer < sequence.stored.size(); ++layer) {
    pages += blocks_for(sequence.stored[layer] + more) - std::ssize(sequence.page_tables[layer]);
    pages += sequence.shares_tails && sequence.stored[layer] % kBlockTokens != 0;
  }
  if (auto added = add_pages(sequence, pages, sequence.blocks, sequence.spare); !added)
    return added;
  if (sequence.shares_tails) unshare_tails(id, sequence);
  for (size_t layer = 0; layer < sequence.stored.size(); ++layer)
    while (std::ssize(sequence.page_tables[layer]) < blocks_for(sequence.stored[layer] + more)) {
      sequence.page_tables[layer].push_back(sequence.spare.back());
      sequence.spare.pop_back();
    }
  sequence.reserved_length = new_length;
  return {};
}

void KvManager::Impl::unshare_tails(SequenceId id, Sequence& sequence) {
  for (size_t layer = 0; layer < sequence.stored.size(); ++layer) {
    const int64_t count = sequence.stored[layer] % kBlockTokens;
    if (count == 0) continue;
    uint32_t& tail = sequence.page_tables[layer][sequence.stored[layer] / kBlockTokens];
    cache.pool().copy_page(tail, sequence.spare.back(), count);
    tail = sequence.spare.back();
    sequence.spare.pop_back();
  }
  sequence.shares_tails = false;
  drop_unused(id, sequence);
}

// Leaves the blocks of which no page is left.
void KvManager::Impl::drop_unused(SequenceId id, Sequence& sequence) {
  std::vector<BlockIndex> used;
  for (const auto& table : sequence.page_tables)
    for (const uint32_t page : table) used.push_back(cache.pool().block_of(page));
  for (const uint32_t page : sequence.spare) used.push_back(cache.pool().block_of(page));
  std::ranges::sort(used);
  std::erase_if(sequence.blocks, [&](BlockIndex block) {
    if (std::ranges::binary_search(used, block)) return false;
    cache.leave(block, id);
    return true;
  });
}

void KvManager::Impl::drop_target(SequenceId id, Sequence& sequence) {
  for (const BlockIndex block : sequence.target.blocks) cache.leave(block, id);
  sequence.target = {};
  sequence.target_spare.clear();
}

void KvManager::Impl::truncate_compacted(SequenceId id, Sequence& sequence, int64_t length) {
  for (size_t layer = 0; layer < sequence.stored.size(); ++layer) {
    sequence.stored[layer] -= sequence.length() - length;
    sequence.page_tables[layer].resize(static_cast<size_t>(blocks_for(sequence.stored[layer])));
  }
  sequence.tokens.resize(static_cast<size_t>(length));
  sequence.reserved_length = length;
  // Forks may have what is cut off: it is theirs to read.
  sequence.shares_tails = true;
  sequence.spare.clear();
  drop_unused(id, sequence);
}

void KvManager::Impl::compact(SequenceId id, Sequence& sequence, Domain compacted) {
  if (!sequence.is_compacted())
    for (int64_t i = 0; i < blocks_for(sequence.length()); ++i) cache.keep(sequence.blocks[i]);
  // Leaves first: a parent is never left before its child.
  for (auto block = sequence.blocks.rbegin(); block != sequence.blocks.rend(); ++block)
    cache.leave(*block, id);
  sequence.blocks = std::move(sequence.target.blocks);
  sequence.page_tables = std::move(sequence.target.page_tables);
  sequence.stored = std::move(sequence.target.stored);
  sequence.spare = std::move(sequence.target_spare);
  sequence.target = {};
  sequence.target_spare.clear();
  sequence.shares_tails = false;
  sequence.compacted_at = sequence.length();
  sequence.reserved_length = sequence.length() + sequence.target_more;
  sequence.domain = compacted;
  sequence.sidecar.reset();
  store.keep(compacted, sequence.tokens,
             {.stored = sequence.stored, .page_tables = sequence.page_tables, .blocks = {}});
}

void KvManager::Impl::truncate(SequenceId id, Sequence& sequence, int64_t length) {
  while (std::ssize(sequence.blocks) > blocks_for(length)) drop_last(id, sequence);
  sequence.tokens.resize(static_cast<size_t>(length));
  sequence.reserved_length = length;
  if (sequence.sidecar) sequence.sidecar = sequence.sidecar->fork(length);
  const int64_t count = sequence.tail_length();
  if (count == 0) return;
  const BlockIndex tail = sequence.blocks.back();
  if (cache.tree().count(tail) == count) return;
  if (cache.pool().references(tail) == 1 && !cache.kept(tail)) {
    cache.tree().shrink(tail, count);
  } else if (cache.owner(tail) == id) {
    cache.set_owner(tail, kNoSequence);
  }
}

KvManager::KvManager(KvGeometry geometry, int64_t blocks, const PageMemoryFactory& allocate)
    : impl_(std::make_unique<Impl>(geometry, blocks, allocate)) {}
KvManager::~KvManager() = default;

const KvGeometry& KvManager::geometry() const { return impl_->cache.pool().geometry(); }
kernels::PagePool KvManager::page_pool() const { return impl_->cache.pool().page_pool(); }

KvStats KvManager::stats() const {
  const BlockCache& cache = impl_->cache;
  KvStats stats{.total_blocks = cache.pool().total(),
                .used_blocks = cache.pool().total() - cache.available(),
                .cached_blocks = cache.cached(),
                .free_blocks = cache.pool().free(),
                .sequences = std::ssize(impl_->sequences)};
  for (const auto& [id, sequence] : impl_->sequences)
    if (sequence.sidecar) stats.sidecar_bytes += sequence.sidecar->bytes();
  return stats;
}

SequenceId KvManager::open_compacted(Domain domain, std::span<const TokenId> prompt) {
  const CompactedStore::Entry* found = impl_->store.find(domain, prompt);
  if (!found) return kNoSequence;
  impl_->store.touch(*found);
  auto [id, sequence] = impl_->add(domain);
  sequence.tokens = found->tokens;
  sequence.stored = found->pages.stored;
  sequence.page_tables = found->pages.page_tables;
  sequence.blocks = found->pages.blocks;
  for (const BlockIndex block : sequence.blocks) impl_->cache.use(block);
  sequence.shares_tails = true;
  sequence.compacted_at = sequence.reserved_length = sequence.length();
  return id;
}

int64_t KvManager::compacted_match_length(Domain domain, std::span<const TokenId> prompt) const {
  const CompactedStore::Entry* found = impl_->store.find(domain, prompt);
  return found ? std::ssize(found->tokens) : 0;
}

Result<void> KvManager::prepare_compaction(SequenceId sequence, std::span<const int64_t> kept,
                                           int64_t more) {
  Sequence& state = impl_->get(sequence);
  if (std::ssize(kept) != geometry().layers)
    throw Error(ErrorCode::kInvalidArgument, "expected a number of entries for each layer",
                "KV manager");
  impl_->drop_target(sequence, state);
  CompactedPages& target = state.target;
  int64_t pages = 0;
  for (const int64_t entries : kept) pages += blocks_for(entries + more);
  if (auto added = impl_->add_pages(state, pages, target.blocks, state.target_spare); !added)
    return added;
  target.stored.assign(kept.begin(), kept.end());
  state.target_more = more;
  target.page_tables.resize(kept.size());
  for (size_t layer = 0; layer < kept.size(); ++layer)
    for (int64_t i = 0; i < blocks_for(kept[layer] + more); ++i) {
      target.page_tables[layer].push_back(state.target_spare.back());
      state.target_spare.pop_back();
    }
  return {};
}

std::span<const uint32_t> KvManager::compaction_table(SequenceId sequence, int layer) const {
  return impl_->get(sequence).target.page_tables.at(static_cast<size_t>(layer));
}

void KvManager::compact(SequenceId sequence, Domain compacted) {
  Sequence& state = impl_->get(sequence);
  if (state.target.stored.empty())
    throw Error(ErrorCode::kInvalidArgument, "no room has been made for what stays", "KV manager");
  impl_->compact(sequence, state, compacted);
}

bool KvManager::is_compacted(SequenceId sequence) const {
  return impl_->get(sequence).is_compacted();
}

int64_t KvManager::stored_length(SequenceId sequence, int layer) const {
  return impl_->get(sequence).stored_in(static_cast<size_t>(layer));
}

SequenceId KvManager::open(Domain domain, std::span<const TokenId> prompt) {
  const Match match = find_match(impl_->cache.tree(), domain, prompt);
  auto [id, sequence] = impl_->add(domain);
  for (BlockIndex block : match.full) impl_->share(sequence, block);
  if (match.tail.length > 0) impl_->share(sequence, match.tail.block);
  const auto known = prompt.first(static_cast<size_t>(match.length()));
  sequence.tokens.assign(known.begin(), known.end());
  sequence.reserved_length = match.length();
  return id;
}

int64_t KvManager::match_length(Domain domain, std::span<const TokenId> prompt) const {
  return find_match(impl_->cache.tree(), domain, prompt).length();
}

Result<SequenceId> KvManager::fork(SequenceId sequence) {
  const Sequence& from = impl_->get(sequence);
  auto [id, twin] = impl_->add(from.domain);
  if (from.is_compacted()) {
    twin.tokens = from.tokens;
    twin.stored = from.stored;
    for (size_t layer = 0; layer < from.stored.size(); ++layer) {
      const auto table = std::span(from.page_tables[layer])
                             .first(static_cast<size_t>(blocks_for(from.stored[layer])));
      twin.page_tables[layer].assign(table.begin(), table.end());
    }
    twin.blocks = from.blocks;
    for (const BlockIndex block : twin.blocks) impl_->cache.use(block);
    twin.shares_tails = true;
    twin.compacted_at = from.compacted_at;
    twin.reserved_length = from.length();
    impl_->drop_unused(id, twin);
    return id;
  }
  for (int64_t i = 0; i < blocks_for(from.length()); ++i) impl_->share(twin, from.blocks[i]);
  twin.tokens = from.tokens;
  twin.reserved_length = from.length();
  if (from.sidecar) twin.sidecar = from.sidecar->fork(from.length());
  return id;
}

Result<void> KvManager::reserve(SequenceId sequence, int64_t new_length) {
  return impl_->reserve(sequence, impl_->get(sequence), new_length);
}

void KvManager::commit(SequenceId sequence, std::span<const TokenId> tokens) {
  Sequence& state = impl_->get(sequence);
  if (state.length() + std::ssize(tokens) > state.reserved_length)
    throw Error(ErrorCode::kInvalidArgument,
                "commit of " + std::to_string(tokens.size()) + " tokens at position " +
                    std::to_string(state.length()) + ", but only " +
                    std::to_string(state.reserved_length) + " positions are reserved",
                "KV manager");
  if (state.is_compacted()) {
    state.tokens.insert(state.tokens.end(), tokens.begin(), tokens.end());
    for (int64_t& stored : state.stored) stored += std::ssize(tokens);
    return;
  }
  while (!tokens.empty()) {
    const size_t room = static_cast<size_t>(kBlockTokens - state.tail_length());
    const auto part = tokens.first(std::min(room, tokens.size()));
    impl_->commit_within_block(sequence, state, part);
    tokens = tokens.subspan(part.size());
  }
}

void KvManager::truncate(SequenceId sequence, int64_t length) {
  Sequence& state = impl_->get(sequence);
  if (length < 0 || length > state.length())
    throw Error(ErrorCode::kInvalidArgument,
                "cannot cut a sequence of " + std::to_string(state.length()) + " positions to " +
                    std::to_string(length),
                "KV manager");
  if (!state.is_compacted()) return impl_->truncate(sequence, state, length);
  if (length < state.compacted_at)
    throw Error(ErrorCode::kInvalidArgument,
                "cannot cut a sequence to " + std::to_string(length) +
                    " positions of which entries have been evicted at " +
                    std::to_string(state.compacted_at),
                "KV manager");
  impl_->truncate_compacted(sequence, state, length);
}

void KvManager::release(SequenceId sequence, bool keep) {
  Sequence& state = impl_->get(sequence);
  impl_->drop_target(sequence, state);
  if (state.is_compacted()) {
    if (keep)
      impl_->store.keep(state.domain, state.tokens,
                        {.stored = state.stored, .page_tables = state.page_tables, .blocks = {}});
    for (const BlockIndex block : state.blocks) impl_->cache.leave(block, sequence);
    impl_->sequences.erase(sequence);
    return;
  }
  if (keep)
    for (int64_t i = 0; i < blocks_for(state.length()); ++i) impl_->cache.keep(state.blocks[i]);
  while (!state.blocks.empty()) impl_->drop_last(sequence, state);
  impl_->sequences.erase(sequence);
}

int64_t KvManager::length(SequenceId sequence) const { return impl_->get(sequence).length(); }

int64_t KvManager::reserved_length(SequenceId sequence) const {
  return impl_->get(sequence).reserved_length;
}

std::span<const TokenId> KvManager::tokens(SequenceId sequence) const {
  return impl_->get(sequence).tokens;
}

std::span<const uint32_t> KvManager::page_table(SequenceId sequence, int layer) const {
  const Sequence& state = impl_->get(sequence);
  if (layer < 0 || layer >= std::ssize(state.page_tables))
    throw Error(
        ErrorCode::kInvalidArgument,
        "no layer " + std::to_string(layer) + " among " + std::to_string(state.page_tables.size()),
        "KV manager");
  return state.page_tables[static_cast<size_t>(layer)];
}

void KvManager::clear_cache() {
  while (impl_->store.oldest() != ~uint64_t{0}) impl_->store.evict();
  while (impl_->cache.cached() > 0) impl_->cache.evict();
}

void KvManager::set_sidecar(SequenceId sequence, std::unique_ptr<Sidecar> sidecar) {
  impl_->get(sequence).sidecar = std::move(sidecar);
}

Sidecar* KvManager::sidecar(SequenceId sequence) const {
  return impl_->get(sequence).sidecar.get();
}

void KvManager::Impl::check_compacted(const std::string& name, const Sequence& sequence) const {
  std::vector<uint32_t> pages = sequence.spare;
  const int64_t more = sequence.reserved_length - sequence.length();
  KVASIR_CHECK(more >= 0 && (more == 0 || !sequence.shares_tails), name);
  for (size_t layer = 0; layer < sequence.stored.size(); ++layer) {
    const auto& table = sequence.page_tables[layer];
    KVASIR_CHECK(std::ssize(table) == blocks_for(sequence.stored[layer] + more), name);
    pages.insert(pages.end(), table.begin(), table.end());
  }
  std::vector<BlockIndex> used;
  for (const uint32_t page : pages) used.push_back(cache.pool().block_of(page));
  std::ranges::sort(pages);
  KVASIR_CHECK(std::ranges::adjacent_find(pages) == pages.end(), name + " has a page twice");
  std::ranges::sort(used);
  used.erase(std::ranges::unique(used).begin(), used.end());
  std::vector<BlockIndex> blocks = sequence.blocks;
  std::ranges::sort(blocks);
  KVASIR_CHECK(blocks == used, name + " uses blocks of which it has no page");
  for (const BlockIndex block : blocks)
    KVASIR_CHECK(!cache.tree().contains(block), name + " shares evicted KV by its tokens");
}

void KvManager::Impl::check_sequence(SequenceId id, const Sequence& sequence) const {
  const PrefixTree& tree = cache.tree();
  const std::string name = "sequence " + std::to_string(id);
  const int64_t length = sequence.length();
  KVASIR_CHECK(length <= sequence.reserved_length, name);
  if (sequence.is_compacted()) return check_compacted(name, sequence);
  KVASIR_CHECK(std::ssize(sequence.blocks) == blocks_for(sequence.reserved_length), name);
  for (int64_t i = 0; i < std::ssize(sequence.blocks); ++i) {
    const BlockIndex block = sequence.blocks[i];
    const std::string place = name + ", block " + std::to_string(i);
    for (size_t layer = 0; layer < sequence.page_tables.size(); ++layer)
      KVASIR_CHECK(
          sequence.page_tables[layer].at(i) == cache.pool().page(block, static_cast<int>(layer)),
          place);
    const int64_t here = std::clamp<int64_t>(length - i * kBlockTokens, 0, kBlockTokens);
    if (here == 0) {
      KVASIR_CHECK(
          !tree.contains(block) && cache.pool().references(block) == 1 && cache.owner(block) == id,
          place + " is reserved and not its own");
      continue;
    }
    KVASIR_CHECK(tree.count(block) >= here, place + " is not findable");
    KVASIR_CHECK(tree.parent(block) == sequence.parent_of(i), place + " hangs elsewhere");
    KVASIR_CHECK(tree.domain(block) == sequence.domain, place + " is of another domain");
    KVASIR_CHECK(std::ranges::equal(tree.tokens(block).first(here),
                                    std::span(sequence.tokens).subspan(i * kBlockTokens, here)),
                 place + " holds other tokens");
    const bool writable_tail = here < kBlockTokens && sequence.reserved_length > length;
    KVASIR_CHECK(!writable_tail || (cache.owner(block) == id && tree.count(block) == here),
                 place + " is reserved, but cannot be appended to");
  }
}

void KvManager::check_invariants() const {
  const BlockCache& cache = impl_->cache;
  cache.check_invariants();
  impl_->store.check_invariants();
  std::vector<uint32_t> references(static_cast<size_t>(cache.pool().total()));
  for (const auto& [id, sequence] : impl_->sequences) {
    impl_->check_sequence(id, sequence);
    for (BlockIndex block : sequence.blocks) ++references[block];
    for (BlockIndex block : sequence.target.blocks) ++references[block];
  }
  for (BlockIndex block = 0; block < references.size(); ++block) {
    const std::string name = "block " + std::to_string(block);
    KVASIR_CHECK(references[block] == cache.pool().references(block), name + " is miscounted");
    const SequenceId owner = cache.owner(block);
    if (owner == kNoSequence || references[block] == 0) continue;
    KVASIR_CHECK(cache.tree().count(block) < kBlockTokens, name + " is full and owned");
    KVASIR_CHECK(std::ranges::count(impl_->get(owner).blocks, block) == 1,
                 name + " is owned by a sequence that does not use it");
  }
}

}  // namespace kvasir::kv
