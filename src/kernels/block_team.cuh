#pragma once
// Thread blocks that do one thing together: one block, or a cluster of blocks that reach into each
// other's shared memory.

#include <cstdint>

#include "kernels/cuda_device.cuh"

namespace kvasir::kernels {

// One block on its own: runs on every GPU.
struct OneBlock {
  static constexpr int kBlocks = 1;
  static __device__ int rank() { return 0; }
  static __device__ void sync() { __syncthreads(); }
  static __device__ void arrive() {}
  static __device__ void wait() { __syncthreads(); }
  template <class T>
  static __device__ T* at(T* shared, int) {
    return shared;
  }
};

// A cluster of blocks that reach into each other's shared memory (compute capability 9.0).
struct Cluster {
  static constexpr int kBlocks = 8;
  static __device__ int rank() {
    uint32_t rank = 0;
#if __CUDA_ARCH__ >= 900
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
    return static_cast<int>(rank);
  }
  static __device__ void sync() {
    arrive();
    wait();
  }
  // The halves of sync().
  static __device__ void arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive;" ::: "memory");
#endif
  }
  static __device__ void wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait;" ::: "memory");
#endif
  }
  // Where `shared` lies in the block of that rank.
  template <class T>
  static __device__ T* at(T* shared, int rank) {
    uint64_t address = reinterpret_cast<uint64_t>(shared);
#if __CUDA_ARCH__ >= 900
    asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(address), "r"(rank));
#endif
    return reinterpret_cast<T*>(address);
  }
};

}  // namespace kvasir::kernels
