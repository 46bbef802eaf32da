#pragma once
// Owner of every byte of KV: pages, the sequences that use them, and the prefix tree that lets
// later sequences take over what earlier ones computed.
//
// A *page* is 64 positions of one layer (kernels/page.h). A *block* is 64 positions of all layers:
// one page a layer. Blocks are reference counted. A full block whose tokens are committed is
// entered in the prefix tree under a hash that chains (domain, tokens so far); `domain` stands for
// everything else that the bytes depend on: model, storage form, prefill method with its options,
// chunk grid. The last, partly filled block of a released sequence stays findable too, so that a
// match is exact to the token: its valid positions are copied into a fresh block of the new
// sequence. Blocks that no sequence uses stay cached until their room is needed; the least recently
// used leaf goes first.
//
// Not thread-safe: owned by the engine loop. Knows nothing of libtorch.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/page.h"
#include "kvasir/request.h"

namespace kvasir::kv {

using SequenceId = uint32_t;
using Domain = uint64_t;

// How keys and values are stored in a page. One form so far.
enum class StorageForm : uint8_t { kPlain };

struct KvGeometry {
  int layers = 0;
  DType dtype = DType::kBF16;
  int kv_heads = 0;
  int head_dim = 0;
  StorageForm form = StorageForm::kPlain;

  int64_t page_bytes() const {
    return kernels::PagePool::plain_page_bytes(dtype, kv_heads, head_dim);
  }
  int64_t block_bytes() const { return layers * page_bytes(); }
  int64_t bytes_per_token() const { return block_bytes() / kernels::kPageTokens; }
};

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
  int64_t used_blocks = 0;    // referenced by a sequence
  int64_t cached_blocks = 0;  // unreferenced but findable
  int64_t free_blocks = 0;    // neither
  int64_t sequences = 0;
  int64_t sidecar_bytes = 0;
};

class KvManager {
 public:
  // Reserves address space for `blocks` blocks once; memory is touched only as blocks come into
  // use. Throws kResourceExhausted where the system refuses.
  KvManager(KvGeometry geometry, int64_t blocks);
  ~KvManager();
  KvManager(const KvManager&) = delete;
  KvManager& operator=(const KvManager&) = delete;

  const KvGeometry& geometry() const;
  kernels::PagePool page_pool() const;  // what kernels read and write through
  KvStats stats() const;

  // Opens a sequence that starts with the longest prefix of `prompt` known in `domain`, at most
  // prompt.size() - 1 tokens (the last one must be computed for its logits). length() is then the
  // number of positions taken over. Errors: kResourceExhausted (no block for the copied tail is not
  // an error: the match is then shorter).
  SequenceId open(Domain domain, std::span<const TokenId> prompt);
  // How many tokens open() would take over.
  int64_t match_length(Domain domain, std::span<const TokenId> prompt) const;

  // A second sequence with the same positions. Full blocks are shared; a partly filled last block
  // is copied when either writes to it next (copy on write), so forks cost nothing until they
  // differ.
  Result<SequenceId> fork(SequenceId sequence);

  // Makes positions [0, new_length) writable from length() on: allocates blocks, evicting cached
  // ones where needed, and un-shares a shared last block. Errors: kResourceExhausted, naming blocks
  // needed and available; nothing changes then.
  Result<void> reserve(SequenceId sequence, int64_t new_length);

  // Declares that the KV of the next tokens has been written: length() grows by tokens.size(),
  // within what is reserved. Blocks that fill up become findable.
  void commit(SequenceId sequence, std::span<const TokenId> tokens);

  // Cuts the sequence back to `length` positions.
  void truncate(SequenceId sequence, int64_t length);

  // Ends the sequence. Its committed blocks stay cached if `keep` and are freed otherwise (shared
  // ones stay with their other users).
  void release(SequenceId sequence, bool keep = true);

  int64_t length(SequenceId sequence) const;
  std::span<const TokenId> tokens(SequenceId sequence) const;
  // Page indices of one layer, one a reserved block. Valid until the next non-const call.
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
