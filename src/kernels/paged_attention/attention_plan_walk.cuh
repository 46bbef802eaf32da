#pragma once
// Which keys a row tile meets under the program of its head (attention_plan.h), key tile by key
// tile, found by one warp while others work on the tiles before.
//
// A key tile is made of groups of 8 keys that start at multiples of 8, so that a group lies in one
// page and is one piece for the copy engine; or of single columns. Runs of kRelative and blocks are
// packed group after group, whatever their segment, as long as the offset bounds are the same. Keys
// of a group outside its run are masked, but they are read: values there have to be finite.
// Tiles of a kAbsolute segment start at multiples of the tile's size, so that what a row gets from
// them does not depend on the rows beside it.
//
// The rows are in one or two parts, row tiles of their own or halves of one: a part of a tile's
// keys can be for one of them alone.

#include <climits>

#include "kernels/cuda_device.cuh"
#include "kernels/page.h"
#include "kernels/paged_attention/attention_plan_cuda.h"

namespace kvasir::kernels {

inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kGroupKeys = 8;

// Queries of a row tile.
struct PlanRows {
  int first, last;  // positions; last < first: none
  int tile;         // number of the row tile
  int position;     // of the first query of the row tile

  __device__ __forceinline__ bool empty() const { return last < first; }
};

// Keys [first, last), none where last <= first.
struct KeyRange {
  int first = 0, last = 0;

  __device__ __forceinline__ bool empty() const { return last <= first; }
  // Which of the 8 keys from `key` on are in it.
  __device__ __forceinline__ uint32_t bits(int key) const {
    const int low = max(first - key, 0), high = min(last - key, kGroupKeys);
    return low < high ? (0xffu >> (kGroupKeys - high)) & (0xffu << low) : 0u;
  }
};

inline constexpr uint32_t kTileIsEnd = 1;       // nothing more comes
inline constexpr uint32_t kTileHasColumns = 2;  // single keys
inline constexpr uint32_t kTileIsSplit = 64;    // halves are for a part each
inline constexpr uint32_t kTileHasGaps = 4;     // << part: `valid` leaves something out
inline constexpr uint32_t kTileHasBounds = 16;  // << part: bounds leave something out, row by row

// In shared memory.
template <int kKeys>
struct alignas(16) PlanTile {
  int32_t groups[kKeys / kGroupKeys];  // first keys; negative where there is nothing to be copied
  // Of part p: bit 2 i + j of valid[p][n] = key 8 i + 2 n + j of the tile is one of the program's.
  uint32_t valid[2][4];
  int32_t offset_begin, offset_end;
  uint32_t flags;
  alignas(16) int32_t columns[kKeys];  // where kTileHasColumns; -1 behind the last one
  alignas(16) uint8_t parts[kKeys];    // of columns, as bits
};

// What bounds let pass of all keys, for any of the rows.
__device__ __forceinline__ KeyRange passing(const PlanSegment& segment, int window,
                                            const PlanRows& rows) {
  const int end = min(segment.offset_end, window), begin = segment.offset_begin;
  if (rows.empty() || rows.tile < segment.tile_begin || rows.tile >= segment.tile_end ||
      end <= begin || rows.last < begin)
    return {};
  return {rows.first >= end ? rows.first - end + 1 : 0, rows.last - begin + 1};
}

// Of keys [first, first + count), where kNoBound is all.
__device__ __forceinline__ KeyRange within(KeyRange range, int64_t first, int count) {
  const int64_t last = count == kNoBound ? INT_MAX : first + count;
  return {static_cast<int>(max(first, int64_t{range.first})),
          static_cast<int>(min(last, int64_t{range.last}))};
}

__device__ __forceinline__ KeyRange keys_of_run(const PlanSegment& segment, int window,
                                                const PlanRows& rows) {
  const int64_t base = segment.kind == SegmentKind::kRelative ? rows.position : 0;
  const KeyRange range = passing(segment, window, rows);
  return range.empty() ? range : within(range, base + segment.first, segment.count);
}

// The first of `count` ascending numbers that is at least `key`; all lanes together.
__device__ __forceinline__ int lower_bound_of(const int32_t* numbers, int count, int key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int first = 0;
  while (count > 0) {
    const int step = (count + 31) / 32, at = (lane + 1) * step - 1;
    const int below = __popc(__ballot_sync(kAllLanes, at < count && numbers[first + at] < key));
    first += below * step;
    count = min(count - below * step, step - 1);
  }
  return first;
}

// Calls of one warp, all lanes together.
template <int kKeys, int kParts>
class PlanWalk {
 public:
  using Tile = PlanTile<kKeys>;

  __device__ __forceinline__ PlanWalk(const CudaAttentionPlan& plan, int head,
                                      const PlanRows (&rows)[kParts], int window)
      : plan_(plan), window_(window), lane_(static_cast<int>(threadIdx.x) % 32) {
#pragma unroll
    for (int p = 0; p < kParts; ++p) rows_[p] = rows[p];
    const HeadProgram program = plan.heads[head];
    begin_ = segment_ = program.first;
    end_ = program.first + program.count;
    if constexpr (kParts == 2)
      are_apart_ = rows[0].tile != rows[1].tile && !rows[0].empty() && !rows[1].empty();
  }

  // Writes all of `tile` that its flags call for. The last one has kTileIsEnd and no keys.
  __device__ __forceinline__ void next(Tile& tile) {
    for (;;) {
      if (groups_taken_ < groups_) {
        if (kParts == 2 && splits_)
          take_split();
        else
          take_groups();
        if (filled_ == kGroups) break;
      } else if (mode_ == Mode::kBlocks) {
        if (!next_blocks()) leave();
      } else if (mode_ == Mode::kAbsolute) {
        if (absolute_ < absolute_end_) {
          next_absolute();
          break;
        }
        leave();
      } else if (mode_ == Mode::kColumns) {
        if (next_columns(tile)) break;
        leave();
      } else if (segment_ < end_) {
        if (!enter()) break;
      } else {
        // Of two parts there is always a tile that is not split, if without keys.
        if (filled_ > 0 || (kParts == 2 && !has_begun_)) break;
        if (!are_apart_ || splits_) {
          if (lane_ == 0) tile.flags = kTileIsEnd;
          return;
        }
        splits_ = true;
        segment_ = begin_;
      }
    }
    publish(tile);
  }

 private:
  static constexpr int kGroups = kKeys / kGroupKeys;
  enum class Mode { kNone, kAbsolute, kBlocks, kColumns };

  __device__ __forceinline__ void leave() {
    mode_ = Mode::kNone;
    ++segment_;
  }

  // Begins with segment_; false where what is filled so far has to go first.
  __device__ __forceinline__ bool enter() {
    const PlanSegment segment = plan_.segments[segment_];
    const int begin = segment.offset_begin, end = min(segment.offset_end, window_);
    const bool is_packed =
        segment.kind == SegmentKind::kRelative || segment.kind == SegmentKind::kBlocks;
    if (splits_ && !is_packed) {
      ++segment_;
      return true;
    }
    if (filled_ > 0 && (!is_packed || begin != offset_begin_ || end != offset_end_)) return false;
    offset_begin_ = begin;
    offset_end_ = end;
    if (segment.kind == SegmentKind::kRelative) {
      enter_runs();
      return true;
    }
    const bool is_run = segment.kind == SegmentKind::kAbsolute;
    int low = INT_MAX, high = 0;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      range_[p] =
          is_run ? keys_of_run(segment, window_, rows_[p]) : passing(segment, window_, rows_[p]);
      if (range_[p].empty()) continue;
      low = min(low, range_[p].first);
      high = max(high, range_[p].last);
    }
    if (low >= high) {
      ++segment_;
      return true;
    }
    if (is_run) {
      mode_ = Mode::kAbsolute;
      absolute_ = low / kKeys * kKeys;
      absolute_end_ = high;
    } else if (segment.kind == SegmentKind::kColumns) {
      mode_ = Mode::kColumns;
      next_run_ = runs_begin_;
      const int32_t* columns = plan_.columns + segment.first;
      next_ = segment.first + lower_bound_of(columns, segment.count, low);
      last_ = segment.first + lower_bound_of(columns, segment.count, high);
    } else {
      mode_ = Mode::kBlocks;
      filled_words_ = 0;
      next_ = low / (32 * kBlockKeys);
      last_ = min(segment.count, (high - 1) / (32 * kBlockKeys) + 1);
    }
    return true;
  }

  // --- groups, of runs or of blocks

  // The groups of 8 that hold a part's keys of this lane.
  __device__ __forceinline__ KeyRange groups_of(int p) const {
    if (run_[p].empty()) return {};
    return {run_[p].first / kGroupKeys, (run_[p].last - 1) / kGroupKeys + 1};
  }

  // How many groups of a lane's keys there are to come, or split tiles.
  __device__ __forceinline__ int find_groups() {
    const KeyRange a = groups_of(0), b = groups_of(kParts - 1);
    if (!are_apart_) {
      const KeyRange all{a.empty() ? b.first : min(a.first, b.empty() ? INT_MAX : b.first),
                         max(a.last, b.last)};
      first_group_ = all.first;
      return all.last - all.first;
    }
    const bool is_one = a.empty() || b.empty();
    if (!splits_) {
      first_group_ = b.first;
      return is_one ? 0 : max(a.last - b.first, 0);
    }
    // The second part's keys begin and end behind the first one's.
    own_[0] = {a.first, is_one ? a.last : min(a.last, b.first)};
    own_[1] = {is_one ? b.first : max(b.first, a.last), b.last};
    return (max(own_[0].last - own_[0].first, own_[1].last - own_[1].first) + kGroups / 2 - 1) /
           (kGroups / 2);
  }

  __device__ __forceinline__ void begin_groups() {
    int sum = find_groups();
    groups_before_ = -sum;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const int before = __shfl_up_sync(kAllLanes, sum, offset);
      if (lane_ >= offset) sum += before;
    }
    groups_up_to_ = sum;
    groups_before_ += sum;
    groups_ = __shfl_sync(kAllLanes, sum, 31);
    groups_taken_ = 0;
  }

  // As many runs from segment_ on as follow each other with the same bounds, a lane each.
  __device__ __forceinline__ void enter_runs() {
    PlanSegment segment{};
    const int at = segment_ + lane_;
    if (at < end_) segment = plan_.segments[at];
    const bool fits = at < end_ && segment.kind == SegmentKind::kRelative &&
                      segment.offset_begin == offset_begin_ &&
                      min(segment.offset_end, window_) == offset_end_;
    const unsigned others = ~__ballot_sync(kAllLanes, fits);
    const int count = others == 0 ? 32 : __ffs(static_cast<int>(others)) - 1;
#pragma unroll
    for (int p = 0; p < kParts; ++p)
      run_[p] = lane_ < count ? keys_of_run(segment, window_, rows_[p]) : KeyRange{};
    if (runs_begin_ == runs_end_) runs_begin_ = segment_;
    segment_ += count;
    runs_end_ = segment_;
    begin_groups();
  }

  // A word of 32 blocks with something in it, a lane a block.
  __device__ __forceinline__ bool next_blocks() {
    const PlanSegment& segment = plan_.segments[segment_];
    while (filled_words_ == 0) {
      if (next_ >= last_) return false;
      const int at = next_ + lane_;
#pragma unroll
      for (int p = 0; p < kParts; ++p)
        words_[p] =
            at < last_ && !range_[p].empty()
                ? plan_.block_bits[segment.first + rows_[p].tile * int64_t{segment.count} + at]
                : 0;
      uint32_t any = 0;
#pragma unroll
      for (int p = 0; p < kParts; ++p) any |= words_[p];
      filled_words_ = __ballot_sync(kAllLanes, any != 0);
      next_ += 32;
    }
    const int word = __ffs(static_cast<int>(filled_words_)) - 1;
    filled_words_ &= filled_words_ - 1;
    const int64_t key = int64_t{(next_ - 32 + word) * 32 + lane_} * kBlockKeys;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const uint32_t bits = __shfl_sync(kAllLanes, words_[p], word);
      run_[p] = bits >> lane_ & 1 ? within(range_[p], key, kBlockKeys) : KeyRange{};
    }
    begin_groups();
    return true;
  }

  // The lane that group `wanted` of all is from.
  __device__ __forceinline__ int owner_of(int wanted) const {
    int owner = 0;
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      if (__shfl_sync(kAllLanes, groups_up_to_, owner + step - 1) <= wanted) owner += step;
    return min(owner, 31);
  }

  __device__ __forceinline__ void take_split() {
    constexpr int kHalf = kGroups / 2;
    const int owner = __popc(__ballot_sync(kAllLanes, groups_up_to_ <= groups_taken_));
    const int step = (groups_taken_ - __shfl_sync(kAllLanes, groups_before_, owner)) * kHalf;
    ++groups_taken_;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const int first = __shfl_sync(kAllLanes, own_[p].first, owner) + step;
      const int last = __shfl_sync(kAllLanes, own_[p].last, owner);
      const KeyRange range{__shfl_sync(kAllLanes, run_[p].first, owner),
                           __shfl_sync(kAllLanes, run_[p].last, owner)};
      const int group = first + lane_ - p * kHalf, key = group * kGroupKeys;
      const bool is_new = lane_ >= p * kHalf && lane_ < (p + 1) * kHalf && group < last;
      key_ = is_new ? key : key_;
      bits_[p] = is_new ? range.bits(key) : 0;
    }
    filled_ = kGroups;
  }

  // Moves groups of the lanes' keys into the tile, a lane a group.
  __device__ __forceinline__ void take_groups() {
    const int count = min(kGroups - filled_, groups_ - groups_taken_);
    const int wanted = groups_taken_ + lane_ - filled_, owner = owner_of(wanted);
    const int first = __shfl_sync(kAllLanes, first_group_, owner);
    const int before = __shfl_sync(kAllLanes, groups_before_, owner);
    const int key = (first + wanted - before) * kGroupKeys;
    const bool is_new = lane_ >= filled_ && lane_ < filled_ + count;
    if (is_new) key_ = key;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const KeyRange range{__shfl_sync(kAllLanes, run_[p].first, owner),
                           __shfl_sync(kAllLanes, run_[p].last, owner)};
      if (is_new) bits_[p] = range.bits(key);
    }
    filled_ += count;
    groups_taken_ += count;
  }

  __device__ __forceinline__ void next_absolute() {
    key_ = absolute_ + lane_ * kGroupKeys;
#pragma unroll
    for (int p = 0; p < kParts; ++p) bits_[p] = range_[p].bits(key_);
    absolute_ += kKeys;
    filled_ = kGroups;
  }

  __device__ __forceinline__ void publish(Tile& tile) {
    const bool is_group = lane_ < kGroups, has_columns = mode_ == Mode::kColumns;
    uint32_t flags = has_columns ? kTileHasColumns : splits_ && filled_ > 0 ? kTileIsSplit : 0;
    uint32_t any = 0;
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      if (lane_ >= filled_ || !is_group) bits_[p] = 0;
      any |= bits_[p];
      const bool is_own = is_group && (!splits_ || lane_ / (kGroups / 2) == p);
      if (__any_sync(kAllLanes, is_own && bits_[p] != 0xff)) flags |= kTileHasGaps << p;
      int lowest = __ffs(static_cast<int>(bits_[p])) - 1;
      int highest = 31 - __clz(static_cast<int>(bits_[p]));
      if (has_columns && bits_[p] != 0) {
        lowest = tile.columns[lane_ * kGroupKeys + lowest];
        highest = tile.columns[lane_ * kGroupKeys + highest];
      } else {
        lowest += key_;
        highest += key_;
      }
      if (__any_sync(kAllLanes, bits_[p] != 0 && is_bounded(p, lowest, highest)))
        flags |= kTileHasBounds << p;
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const uint32_t valid =
            __reduce_or_sync(kAllLanes, (bits_[p] >> 2 * n & 3u) << (2 * lane_ & 31));
        if (lane_ == n) tile.valid[p][n] = valid;
      }
    }
    // What is not there becomes one page that does not exist.
    if (is_group && !has_columns) tile.groups[lane_] = any != 0 ? key_ : lane_ * kGroupKeys - kKeys;
    if (lane_ == 0) {
      tile.offset_begin = offset_begin_;
      tile.offset_end = offset_end_;
      tile.flags = flags;
    }
    filled_ = 0;
    has_begun_ = true;
  }

  // Whether bounds leave out something of a part's rows times keys between these.
  __device__ __forceinline__ bool is_bounded(int p, int lowest, int highest) const {
    return rows_[p].first - highest < offset_begin_ || rows_[p].last - lowest >= offset_end_;
  }

  // --- columns

  // For which parts runs of the program hold a lane's key, as bits. Keys of `count` lanes ascend,
  // from call to call too.
  __device__ __forceinline__ uint32_t parts_in_runs(int key, int count) {
    const int lowest = __shfl_sync(kAllLanes, key, 0);
    const int highest = __shfl_sync(kAllLanes, key, count - 1);
    uint32_t parts = 0;
    for (int window = next_run_; window < runs_end_; window += 32) {  // of runs, a lane each
      PlanSegment run{};
      const bool is_there = window + lane_ < runs_end_;
      if (is_there) run = plan_.segments[window + lane_];
      const bool is_run = is_there && run.kind == SegmentKind::kRelative;
      const auto last = static_cast<int>(min(int64_t{run.first} + run.count, int64_t{INT_MAX / 2}));
      // What ends before the keys of all parts ends before those of later calls.
      const unsigned ended = __ballot_sync(
          kAllLanes, is_there && (!is_run || last <= lowest - rows_[kParts - 1].position));
      if (window == next_run_)
        next_run_ += ended == kAllLanes ? 32 : __ffs(static_cast<int>(~ended)) - 1;
      unsigned met =
          __ballot_sync(kAllLanes, is_run && run.first <= highest - rows_[0].position) & ~ended;
      const bool is_last = __any_sync(kAllLanes, is_run && run.first > highest - rows_[0].position);
      for (; met != 0; met &= met - 1) {
        const int owner = __ffs(static_cast<int>(met)) - 1;
        const int begin = __shfl_sync(kAllLanes, run.first, owner);
        const int end = __shfl_sync(kAllLanes, last, owner);
#pragma unroll
        for (int p = 0; p < kParts; ++p) {
          const int relative = key - rows_[p].position;
          if (relative >= begin && relative < end) parts |= 1u << p;
        }
      }
      if (is_last) break;
    }
    return parts;
  }

  __device__ __forceinline__ bool next_columns(Tile& tile) {
    int found = 0;
    while (next_ < last_ && found < kKeys) {
      const bool is_there = next_ + lane_ < last_;
      const int key = is_there ? plan_.columns[next_ + lane_] : 0;
      const uint32_t in_runs = parts_in_runs(key, min(last_ - next_, 32));
      uint32_t parts = 0;
#pragma unroll
      for (int p = 0; p < kParts; ++p)
        if (is_there && key >= range_[p].first && key < range_[p].last) parts |= 1u << p;
      parts &= ~in_runs;
      const unsigned kept = __ballot_sync(kAllLanes, parts != 0);
      const int place = found + __popc(kept & ((1u << lane_) - 1));
      if (parts != 0 && place < kKeys) {
        tile.columns[place] = key;
        tile.parts[place] = static_cast<uint8_t>(parts);
      }
      const unsigned beyond = __ballot_sync(kAllLanes, parts != 0 && place == kKeys);
      next_ += beyond != 0 ? __ffs(static_cast<int>(beyond)) - 1 : 32;
      found = min(found + __popc(kept), kKeys);
    }
    if (found == 0) return false;
    for (int place = found + lane_; place < kKeys; place += 32) {
      tile.columns[place] = -1;
      tile.parts[place] = 0;
    }
    __syncwarp();
    // A lane's 8 columns, each a byte, as bits.
    uint2 parts{};
    if (lane_ < kGroups) parts = *reinterpret_cast<const uint2*>(&tile.parts[lane_ * kGroupKeys]);
#pragma unroll
    for (int p = 0; p < kParts; ++p)
      bits_[p] = ((parts.x >> p & 0x01010101u) * 0x10204080u >> 28) |
                 ((parts.y >> p & 0x01010101u) * 0x10204080u >> 28 << 4);
    filled_ = kGroups;
    return true;
  }

  static constexpr int kBlockKeys = 64;

  const CudaAttentionPlan plan_;
  PlanRows rows_[kParts];
  const int window_, lane_;
  int begin_, segment_, end_;
  bool are_apart_ = false;  // the parts are row tiles of their own
  bool has_begun_ = false;  // a tile has been written
  bool splits_ = false;     // the second time through the program
  // What columns give way to: the runs among these segments.
  int runs_begin_ = 0, runs_end_ = 0;
  int next_run_ = 0;  // the first of them that the columns to come can meet
  Mode mode_ = Mode::kNone;
  KeyRange range_[kParts];  // of the segment
  int absolute_ = 0, absolute_end_ = 0;
  int next_ = 0, last_ = 0;  // columns, or words of blocks
  uint32_t words_[kParts], filled_words_ = 0;
  // A lane's keys and its place among the groups of all lanes.
  KeyRange run_[kParts];
  KeyRange own_[kParts];  // groups that the other part has not
  int first_group_ = 0, groups_before_ = 0, groups_up_to_ = 0;
  int groups_ = 0, groups_taken_ = 0;
  // The tile to come, a lane a group.
  int filled_ = 0, key_ = 0;
  uint32_t bits_[kParts] = {};
  int offset_begin_ = 0, offset_end_ = 0;
};

}  // namespace kvasir::kernels
