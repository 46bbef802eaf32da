#pragma once
// What an eviction method does for a request: after a prompt it says which entries of the KV stay.
//
// An *entry* is one position's key and value of one KV head. Keys are stored rotated, so an entry
// carries its position along; entries stay in ascending order of position. All heads of a layer
// keep equally many, layers may differ.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/context.h"
#include "kernels/page.h"
#include "kvasir/request.h"

namespace kvasir::compress {

// What methods are made for.
struct ModelShape {
  int layers = 0;
  std::vector<int64_t> windows;  // [layers] sliding windows, 0 = none; empty = none anywhere
};

// The entries of one layer after the last chunk of a prompt.
struct EvictionSite {
  int layer = 0;
  int64_t entries = 0;  // of each KV head, the last queries' own included
  // The last `rows` queries of the prompt: as many as query_rows(), where the chunk has them.
  const void* q = nullptr;   // [rows, q_heads, head_dim] in pages.dtype, rotated
  int64_t q_row_stride = 0;  // elements
  int64_t rows = 0;
  int q_heads = 0;
  float scale = 0;
  kernels::PagePool pages;
  const uint32_t* page_table = nullptr;
  const kernels::CpuContext* context = nullptr;
};

// A method with its options, for one model. Immutable: requests may share it.
class Compressor {
 public:
  virtual ~Compressor() = default;
  // How many of the prompt's last queries select() looks at; 0: none.
  virtual int64_t query_rows() const = 0;
  // Fewest entries to keep of a layer that has `entries`, after `tokens` tokens in all. Never more
  // than entries.
  int64_t kept(int layer, int64_t tokens, int64_t entries) const;
  // The entries that stay, ascending: [kv_heads, count] with count = kept(...) < site.entries.
  void select(const EvictionSite& site, int64_t count, std::span<int32_t> kept) const;
  // Whether what is appended to evicted KV is ranked with it after the next prompt, or stays.
  bool is_rolling() const { return is_rolling_; }

 protected:
  Compressor(ModelShape model, bool is_rolling)
      : model_(std::move(model)), is_rolling_(is_rolling) {}
  // Of layers without a sliding window.
  virtual int64_t capacity(int layer, int64_t tokens) const = 0;
  virtual void select_entries(const EvictionSite& site, int64_t count,
                              std::span<int32_t> kept) const = 0;
  int layers() const { return model_.layers; }

 private:
  int64_t window(int layer) const {
    return model_.windows.empty() ? 0 : model_.windows[static_cast<size_t>(layer)];
  }
  const ModelShape model_;
  const bool is_rolling_;
};

// The method of a choice whose name and options have been checked (base/method.h); null where it
// evicts nothing. Errors: kInvalidArgument for options that do not fit one another.
Result<std::shared_ptr<const Compressor>> make_compressor(const MethodChoice& choice,
                                                          const ModelShape& model);

}  // namespace kvasir::compress
