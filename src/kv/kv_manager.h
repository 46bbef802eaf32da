#pragma once
// Owner of every byte of KV: pages, the sequences that use them, and the prefix tree that lets
// later sequences take over what earlier ones computed.
//
// A *page* is 64 positions of one layer (kernels/page.h). A *block* is 64 positions of all layers:
// one page a layer. Blocks are reference counted. Every block with committed positions is entered
// in the prefix tree under a hash that chains (domain, tokens so far); `domain` stands for
// everything else that the bytes depend on: model, storage form, prefill method with its options,
// chunk grid. The partly filled last block of a sequence, living or released, is findable too, so
// that a match is exact to the token. Blocks that no sequence uses stay cached until their room is
// needed; the least recently used leaf goes first.
//
// Committed positions are never overwritten. A partly filled block has at most one owner, the
// sequence that may append to it; whoever shares it and wants to write gets a copy of its own first
// (copy on write), in reserve().
//
// Not thread-safe: owned by the engine loop. Knows nothing of libtorch. Throws kInvalidArgument for
// an unknown sequence.

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "kernels/page.h"
#include "kv/page_memory.h"
#include "kv/types.h"
#include "kvasir/request.h"

namespace kvasir::kv {

// Extra state that a method keeps beside a sequence's pages (cluster indexes, graphs). Owned,
// counted, shared and freed by the manager.
class Sidecar {
 public:
  virtual ~Sidecar() = default;
  virtual int64_t bytes() const = 0;
  // The sidecar for a fork that shares the first `length` positions; null = cannot, build anew.
  virtual std::unique_ptr<Sidecar> fork(int64_t length) const = 0;
};

struct KvStats {
  int64_t total_blocks = 0;
  int64_t used_blocks = 0;    // a sequence uses them
  int64_t cached_blocks = 0;  // no sequence uses them, but they are findable; evicted at need
  int64_t free_blocks = 0;    // neither
  int64_t sequences = 0;
  int64_t sidecar_bytes = 0;
};

class KvManager {
 public:
  // Takes memory for `blocks` blocks once: in host memory, where it is touched only as blocks come
  // into use, or where `allocate` says. Throws kInvalidArgument for an impossible geometry,
  // kResourceExhausted where `allocate` refuses or page indices would not fit 32 bits.
  KvManager(KvGeometry geometry, int64_t blocks,
            const PageMemoryFactory& allocate = host_page_memory);
  ~KvManager();
  KvManager(const KvManager&) = delete;
  KvManager& operator=(const KvManager&) = delete;

  const KvGeometry& geometry() const;
  kernels::PagePool page_pool() const;  // what kernels read and write through
  KvStats stats() const;

  // Opens a sequence that starts with the longest prefix of `prompt` known in `domain`, at most
  // prompt.size() - 1 tokens (the last one must be computed for its logits). length() is then the
  // number of positions taken over; their blocks cannot be evicted while the sequence lives.
  // Allocates and copies nothing (reserve() does), so it cannot fail.
  SequenceId open(Domain domain, std::span<const TokenId> prompt);
  // A sequence that starts from the longest compacted one of `domain` whose tokens `prompt` goes on
  // from, and shares its pages; kNoSequence where there is none. Copies nothing.
  SequenceId open_compacted(Domain domain, std::span<const TokenId> prompt);
  int64_t compacted_match_length(Domain domain, std::span<const TokenId> prompt) const;
  // How many tokens open() would take over.
  int64_t match_length(Domain domain, std::span<const TokenId> prompt) const;

  // A second sequence with the same committed positions, and the sidecar's fork. All blocks are
  // shared; the partly filled last one is copied when the sequence that does not own it reserves
  // room to write, so forks cost nothing until they differ. What the original has reserved stays
  // its own.
  Result<SequenceId> fork(SequenceId sequence);

  // Makes positions [length(), new_length) writable: un-shares the last block where needed and
  // allocates blocks, evicting cached ones. Errors: kResourceExhausted, naming blocks needed and
  // available; nothing changes then. A sequence that is alone can always fill the whole pool.
  Result<void> reserve(SequenceId sequence, int64_t new_length);

  // Declares that the KV of the next tokens has been written: length() grows by tokens.size(),
  // within what is reserved (throws kInvalidArgument otherwise). The positions become findable. A
  // block that fills up while another sequence has already committed the same tokens is given back,
  // and the page table shows the other's from then on.
  void commit(SequenceId sequence, std::span<const TokenId> tokens);

  // Makes room for `kept` entries of each KV head, layer by layer, and `more` tokens behind them:
  // pages of their own, into which the caller copies what stays of the sequence. Errors as
  // reserve().
  Result<void> prepare_compaction(SequenceId sequence, std::span<const int64_t> kept,
                                  int64_t more = 0);
  std::span<const uint32_t> compaction_table(SequenceId sequence, int layer) const;
  // The room that was made takes the place of the sequence's pages, which stay cached where they
  // were findable. From then on it is *compacted*: length() and tokens() count what was committed,
  // stored_length() what is stored, to which the next tokens are appended. It shares no block by
  // its tokens; from now on, and again when it is released, it is found as a whole in `compacted`
  // (open_compacted). Forks and truncation to no less than this length work as ever.
  void compact(SequenceId sequence, Domain compacted);
  bool is_compacted(SequenceId sequence) const;
  // Entries of each KV head of a layer; length() where the sequence is not compacted.
  int64_t stored_length(SequenceId sequence, int layer) const;

  // Cuts the sequence back to `length` <= length() positions and drops what is reserved beyond.
  // Positions cut off stay findable only through others that use or have kept them. The sidecar
  // becomes its fork at `length`.
  void truncate(SequenceId sequence, int64_t length);

  // Ends the sequence. Its committed blocks stay cached if `keep`; otherwise those go back that no
  // other sequence uses and no earlier one has kept.
  void release(SequenceId sequence, bool keep = true);

  int64_t length(SequenceId sequence) const;
  // Positions that may be written: reserve() has made [length(), reserved_length()) ready.
  int64_t reserved_length(SequenceId sequence) const;
  // The committed tokens. Valid until the next non-const call.
  std::span<const TokenId> tokens(SequenceId sequence) const;
  // Page indices of one layer, one a block, covering reserved_length() positions. Valid until the
  // next non-const call.
  std::span<const uint32_t> page_table(SequenceId sequence, int layer) const;

  // Drops every cached block.
  void clear_cache();

  void set_sidecar(SequenceId sequence, std::unique_ptr<Sidecar> sidecar);
  Sidecar* sidecar(SequenceId sequence) const;

  // Walks every structure and throws kInternal where reference counts, free lists, hashes or the
  // tree disagree. For tests; O(everything).
  void check_invariants() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvasir::kv
