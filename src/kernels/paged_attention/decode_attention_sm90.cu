#include <cuda.h>

#include <algorithm>

#include "kernels/paged_attention/decode_attention.cuh"
#include "kernels/paged_attention/sm90_async.cuh"

namespace kvasir::kernels {
namespace {

using namespace decode;

// The copy engine copies boxes of 64 elements of a warp's 16 keys; what lies behind head_dim is
// zero. A barrier for each slot counts its bytes.
template <int kSteps, int kStages>
class BoxCopy {
 public:
  using Source = CUtensorMap;  // of the pool: [pages][heads, K and V, positions][head_dim]
  static constexpr int kBarrierBytes = sizeof(sm90::Barrier);

  __device__ __forceinline__ BoxCopy(const DecodeArgs&, const Source& source, std::byte* ring,
                                     std::byte* barriers, int warp, int lane)
      : source_(source),
        ring_(ring),
        barriers_(reinterpret_cast<sm90::Barrier*>(barriers) + warp * kStages),
        row_(warp * kWarpKeys),
        lane_(lane) {
    if (lane == 0) {
      sm90::prefetch_tensor_map(source);
      for (int i = 0; i < kStages; ++i) barriers_[i].init(1);
      sm90::fence_barrier_init();
    }
    __syncwarp();
  }

  __device__ __forceinline__ void begin(int slot, uint32_t page, int kv_head) {
    constexpr int kSlices = kSteps / 4;
    if (lane_ == 0) barriers_[slot].arrive_and_expect(slot_bytes<kSteps>());
    __syncwarp();
    if (lane_ < 2 * kSlices) {
      const int part = lane_ / kSlices, slice = lane_ % kSlices;
      sm90::copy_box(ring_ + slot * slot_bytes<kSteps>() + lane_ * kSliceBytes, source_,
                     barriers_[slot], slice * 64,
                     (kv_head * 2 + part) * static_cast<int>(kPageTokens) + row_,
                     static_cast<int>(page));
    }
  }
  __device__ __forceinline__ void skip() {}
  __device__ __forceinline__ void wait(int slot, uint32_t parity) { barriers_[slot].wait(parity); }

 private:
  const Source& source_;
  std::byte* ring_;
  sm90::Barrier* barriers_;
  int row_, lane_;
};

// A page of 256 elements a head fills a third of the shared memory.
constexpr int blocks_per_multiprocessor(int steps) { return steps == 16 ? 1 : 2; }

CUtensorMap tensor_map_of(const PagePool& pages, int64_t page_count) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    KVASIR_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                 cudaEnableDefault, &found));
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  const cuuint64_t sizes[3] = {static_cast<cuuint64_t>(pages.head_dim),
                               static_cast<cuuint64_t>(pages.kv_heads) * 2 * kPageTokens,
                               static_cast<cuuint64_t>(std::max<int64_t>(page_count, 1))};
  const cuuint64_t strides[2] = {pages.head_dim * dtype_bytes(pages.dtype),
                                 static_cast<cuuint64_t>(pages.page_bytes)};
  const cuuint32_t box[3] = {64, kWarpKeys, 1}, steps[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map,
             pages.dtype == DType::kBF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                         : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
             3, pages.base, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  KVASIR_CUDA(status == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue);
  return map;
}

}  // namespace

int decode_blocks_sm90(int head_dim) { return blocks_per_multiprocessor(head_dim > 128 ? 16 : 8); }

void launch_decode_attention_sm90(const cuda::Context& context, const DecodeArgs& args,
                                  int blocks) {
  const CudaAttentionArgs& attention = args.attention;
  const CUtensorMap map = tensor_map_of(attention.pages, attention.page_count);
  with_shape(args, [&]<class T, int kSteps, int kTiles>() {
    constexpr int kBlocks = blocks_per_multiprocessor(kSteps);
    constexpr int kStages = 48 / kBlocks / kSteps;
    launch_attend<T, kSteps, kTiles, kStages, kBlocks, BoxCopy<kSteps, kStages>>(context, args,
                                                                                 blocks, map);
  });
}

}  // namespace kvasir::kernels
