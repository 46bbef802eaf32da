#pragma once
// Group scores of a range of keys, per instruction set. Plain declarations: see gemm_tile.h.

#include <cstddef>
#include <cstdint>

namespace kvasir::kernels {

inline constexpr int kGroupsAtOnce = 16;      // query groups of a panel, key groups of a key tile
inline constexpr int kStepKeyTiles = 2;       // key tiles that meet the panels together
inline constexpr int64_t kPartKeys = 1024;    // keys of a task: whole steps of every fast stride
inline constexpr int kStateFloats = 2 * 16;   // of a panel and a block: see `states`
inline constexpr int64_t kScoreBytes = 4096;  // of two panels' scores of two key tiles

// How many elements a group has, and how many it is filled up to.
constexpr int64_t group_elements(int64_t head_dim, int stride) { return head_dim * stride; }
constexpr int64_t padded_elements(int64_t elements) { return (elements + 31) / 32 * 32; }

// A panel: 16 query groups of one head.
struct GroupQueries {
  const std::byte* q = nullptr;  // the head in the panel's first row
  int64_t row_bytes = 0;         // between rows
  int64_t rows = 0;              // from the panel's first on to the span's end
  int64_t head_dim = 0;
  int stride = 0;
  bool is_bf16 = true;
};

struct GroupPart {
  int64_t head_dim = 0;
  int stride = 0;
  bool is_bf16 = true;
  float scale = 0;          // of sums, for 2^x
  int64_t first_group = 0;  // the last key group that query group 0 sees; group a sees a more
  const std::byte* panels = nullptr;  // [panels, heads], packed
  int64_t panel_bytes = 0;
  int64_t panel_count = 0;
  int64_t heads = 0;
  const std::byte* pages = nullptr;  // the keys of the KV head in page 0 of the pool
  int64_t page_bytes = 0;
  const uint32_t* page_table = nullptr;
  int64_t length = 0;     // keys in all
  int64_t first_key = 0;  // of the part, a multiple of kPartKeys
  // [panels, heads, blocks][2][16]: of each query group of a panel the largest score of a block,
  // not yet scaled, and the sum of 2^(scale * (score - largest)).
  float* states = nullptr;
  int64_t state_blocks = 0;
  std::byte* scratch = nullptr;  // staged keys, then kScoreBytes for every two of all heads' panels
};

// One panel's masses, from its states, which are spent.
struct GroupFinish {
  float* states = nullptr;
  int64_t blocks = 0;  // that the panel's queries see
  float scale = 0;
  int groups = 0;           // of the panel, up to 16
  int groups_of_tile = 0;   // of a row tile: 16 or 8
  float* masses = nullptr;  // of the panel's first row tile
  int64_t mass_row_stride = 0;
};

struct GroupFunctions {
  void (*pack)(const GroupQueries& queries, std::byte* panel) = nullptr;
  void (*score)(const GroupPart& part) = nullptr;
  void (*finish)(const GroupFinish& panel) = nullptr;
  int64_t element_bytes = 4;  // of packed queries and staged keys
};

void pack_groups_avx2(const GroupQueries& queries, std::byte* panel);
void score_groups_avx2(const GroupPart& part);
void finish_groups_avx2(const GroupFinish& panel);
void pack_groups_avx512(const GroupQueries& queries, std::byte* panel);
void score_groups_avx512(const GroupPart& part);
void finish_groups_avx512(const GroupFinish& panel);
void pack_groups_amx(const GroupQueries& queries, std::byte* panel);
void score_groups_amx(const GroupPart& part);

}  // namespace kvasir::kernels
