#pragma once
// The part of cuBLASLt's C interface that wide_gemm uses, bound at run time. Values and signatures
// are those of cublasLt.h, versions 12 and 13.

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace kvasir::kernels {

struct CublasLt {
  using Status = int;  // 0 = success
  using Handle = struct HandleOfLt*;
  using Desc = struct DescOfLt*;
  using Layout = struct LayoutOfLt*;
  using Preference = struct PreferenceOfLt*;
  struct Algorithm {
    uint64_t data[8];
  };
  struct Heuristic {
    Algorithm algorithm;
    size_t workspace_bytes;
    Status state;
    float waves;
    int reserved[4];
  };

  static constexpr int kCompute32F = 68;      // CUBLAS_COMPUTE_32F
  static constexpr int kTranspose = 1;        // CUBLAS_OP_T
  static constexpr int kDescTransposeA = 3;   // CUBLASLT_MATMUL_DESC_TRANSA
  static constexpr int kDescEpilogue = 7;     // CUBLASLT_MATMUL_DESC_EPILOGUE
  static constexpr int kDescBias = 8;         // CUBLASLT_MATMUL_DESC_BIAS_POINTER
  static constexpr int kDescBiasType = 26;    // CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE
  static constexpr int kEpilogueBias = 4;     // CUBLASLT_EPILOGUE_BIAS
  static constexpr int kPreferWorkspace = 1;  // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES

  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  const char* (*status_string)(Status);
  Status (*create_desc)(Desc*, int compute, cudaDataType_t scale);
  Status (*destroy_desc)(Desc);
  Status (*set_desc)(Desc, int attribute, const void*, size_t);
  Status (*create_layout)(Layout*, cudaDataType_t, uint64_t rows, uint64_t columns, int64_t ld);
  Status (*destroy_layout)(Layout);
  Status (*create_preference)(Preference*);
  Status (*destroy_preference)(Preference);
  Status (*set_preference)(Preference, int attribute, const void*, size_t);
  Status (*heuristic)(Handle, Desc, Layout a, Layout b, Layout c, Layout d, Preference, int wanted,
                      Heuristic*, int* found);
  Status (*matmul)(Handle, Desc, const void* alpha, const void* a, Layout, const void* b, Layout,
                   const void* beta, const void* c, Layout, void* d, Layout, const Algorithm*,
                   void* workspace, size_t workspace_bytes, cudaStream_t);

  // The library of the system, the CUDA toolkit or the libtorch that this was built beside; stays
  // loaded. Throws kNotFound.
  static const CublasLt& load();
};

}  // namespace kvasir::kernels
