#pragma once
// The tensor core part of decode attention: the running softmax of one warp over its keys.
//
// Scores and outputs are computed transposed, queries as the n = 8 operand of the tensor cores:
//   S^T [16 keys, queries] = K Q^T,  O^T [head_dim, queries] += V^T P^T.
// In shared memory a warp's K and V lie as [head_dim / 64][16 keys][128 bytes], 16-byte chunk c of
// a row at c ^ (key % 8), so that no eight rows of a chunk share a bank. head_dim is padded with
// zeros to what is compiled.

#include "kernels/mma_sm80.cuh"

namespace kvasir::kernels::decode {

constexpr int kWarpKeys = 16;                 // of a page
constexpr int kSliceBytes = kWarpKeys * 128;  // 64 elements of a warp's keys
constexpr unsigned kAllLanes = ~0u;

__device__ __forceinline__ uint32_t transpose_matrix(uint32_t a) {
  uint32_t result;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(a));
  return result;
}

// K and V of a warp's keys of a page, one after the other. A multiple of 1024.
template <int kSteps>
constexpr int slot_bytes() {
  return kSteps / 4 * 2 * kSliceBytes;
}

// The queries of a unit as the tensor cores' operand; head_dim is kSteps * 16, queries are
// kTiles * 8. In shared memory rows are padded: eight of them share no bank.
template <int kSteps, int kTiles>
struct Queries {
  static constexpr int kRowBytes = kSteps * 32 + 16;
  static constexpr int kBytes = kTiles * 8 * kRowBytes;
  // Registers hold them where there are enough.
  static constexpr bool kInRegisters = kSteps * kTiles <= 16;

  uint32_t address;  // of this lane's 16 bytes of the first two steps
  uint32_t operands[kInRegisters ? kSteps : 2][kTiles][2];

  __device__ __forceinline__ Queries(uint32_t shared, int lane)
      : address(shared + lane % 8 * kRowBytes + lane / 8 * 16) {}
  __device__ __forceinline__ void load() {
    if constexpr (kInRegisters)
#pragma unroll
      for (int step = 0; step < kSteps; step += 2) load_pair(step, step);
  }
  // Before `step` and the one after it.
  __device__ __forceinline__ void prepare(int step) {
    if constexpr (!kInRegisters) load_pair(step, 0);
  }
  __device__ __forceinline__ const uint32_t (&at(int step, int tile) const)[2] {
    return operands[kInRegisters ? step : step % 2][tile];
  }

 private:
  __device__ __forceinline__ void load_pair(int step, int to) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      uint32_t a[4];
      load_matrices(a, address + tile * 8 * kRowBytes + step * 32);
#pragma unroll
      for (int i = 0; i < 4; ++i) operands[to + i / 2][tile][i % 2] = a[i];
    }
  }
};

// The running softmax of one warp. Lane 4 g + t has, of tile i, the queries i * 8 + 2 t and
// i * 8 + 2 t + 1: of each S^T the keys g and g + 8, of each O^T the elements g and g + 8 of step.
template <class T, int kSteps, int kTiles>
struct State {
  float maximum[kTiles][2];  // in units of log2; the same in all lanes of a query
  float weights[kTiles][2];  // of this lane's keys alone
  float out[kSteps][kTiles][4];

  __device__ __forceinline__ void reset() {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      for (int i = 0; i < 2; ++i) {
        maximum[tile][i] = -INFINITY;
        weights[tile][i] = 0;
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
        for (int i = 0; i < 4; ++i) out[step][tile][i] = 0;
    }
  }

  // Adds 16 keys, of which first..last are visible; keys and values at this lane's addresses.
  __device__ __forceinline__ void add(Queries<kSteps, kTiles>& queries, uint32_t keys,
                                      uint32_t values, float log2_scale, int first, int last,
                                      int lane) {
    float scores[kTiles][4];
    score(queries, keys, scores);
    const int key = lane / 4;
    const bool visible[2] = {key >= first && key <= last, key + 8 >= first && key + 8 <= last};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        scores[tile][i] = visible[i / 2] ? scores[tile][i] * log2_scale : -INFINITY;
    raise_maximum(scores);

    uint32_t weights_of[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      float weight[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) weight[i] = fast_exp2(scores[tile][i] - maximum[tile][i % 2]);
      weights[tile][0] += weight[0] + weight[2];
      weights[tile][1] += weight[1] + weight[3];
      weights_of[tile][0] = transpose_matrix(pack_pair<T>(weight[0], weight[1]));
      weights_of[tile][1] = transpose_matrix(pack_pair<T>(weight[2], weight[3]));
    }
    // What lies behind the last key may be NaN, which a weight of 0 does not make 0.
    uint32_t kept[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int low = lane % 4 * 2 + i * 8;
      kept[i] = (low >= first && low <= last ? 0x0000ffffu : 0) |
                (low + 1 >= first && low + 1 <= last ? 0xffff0000u : 0);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint32_t a[4];
      load_transposed(a, (values ^ (step % 4 * 32)) + step / 4 * kSliceBytes);
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] &= kept[i / 2];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
        multiply_add<T>(out[step][tile], a, weights_of[tile][0], weights_of[tile][1]);
    }
  }

 private:
  __device__ __forceinline__ static void score(Queries<kSteps, kTiles>& queries, uint32_t keys,
                                               float (&scores)[kTiles][4]) {
    float halves[2][kTiles][4] = {};  // two chains of products, each half as long
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (step % 2 == 0) queries.prepare(step);
      uint32_t a[4];
      load_matrices(a, (keys ^ (step % 4 * 32)) + step / 4 * kSliceBytes);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
        multiply_add<T>(halves[step % 2][tile], a, queries.at(step, tile)[0],
                        queries.at(step, tile)[1]);
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[tile][i] = halves[0][tile][i] + halves[1][tile][i];
  }

  __device__ __forceinline__ void raise_maximum(const float (&scores)[kTiles][4]) {
    float raised[kTiles][2];
    bool is_raised = false;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float highest = fmaxf(scores[tile][i], scores[tile][i + 2]);
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2)
          highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, offset));
        raised[tile][i] = fmaxf(maximum[tile][i], highest);
        is_raised |= raised[tile][i] > maximum[tile][i];
      }
    if (!__any_sync(kAllLanes, is_raised)) return;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      float shrink[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        shrink[i] = fast_exp2(maximum[tile][i] - raised[tile][i]);
        maximum[tile][i] = raised[tile][i];
        weights[tile][i] *= shrink[i];
      }
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i) out[step][tile][i] *= shrink[i % 2];
    }
  }
};

}  // namespace kvasir::kernels::decode
