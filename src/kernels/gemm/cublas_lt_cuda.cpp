#include <dlfcn.h>

#include <string>
#include <vector>

#include "kernels/gemm/cublas_lt.h"
#include "kvasir/error.h"

namespace kvasir::kernels {
namespace {

// Newest first; both have the same interface.
constexpr const char* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

std::vector<std::string> places() {
  std::vector<std::string> folders{""};  // wherever the system looks
  const std::string beside_libtorch = KVASIR_LIBTORCH_FOLDER;
  if (!beside_libtorch.empty()) {
    folders.push_back(beside_libtorch + "/lib/");
    folders.push_back(beside_libtorch + "/../nvidia/cu13/lib/");
    folders.push_back(beside_libtorch + "/../nvidia/cublas/lib/");
  }
  folders.emplace_back("/usr/local/cuda/lib64/");
  return folders;
}

void* open_library() {
  std::string tried;
  for (const char* name : kNames)
    for (const std::string& folder : places()) {
      if (void* library = ::dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
      tried += (tried.empty() ? "" : ", ") + folder + name;
    }
  throw Error(ErrorCode::kNotFound,
              "expected NVIDIA's cuBLASLt (" + tried +
                  "), found none that loads; install the CUDA libraries, or use --device cpu",
              "--device");
}

template <class Function>
void bind(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(::dlsym(library, name));
  if (!function)
    throw Error(ErrorCode::kNotFound, std::string("cuBLASLt has no ") + name + "; is it damaged?",
                "--device");
}

CublasLt bind_all() {
  void* library = open_library();
  CublasLt lt{};
  bind(library, "cublasLtCreate", lt.create);
  bind(library, "cublasLtDestroy", lt.destroy);
  bind(library, "cublasLtGetStatusString", lt.status_string);
  bind(library, "cublasLtMatmulDescCreate", lt.create_desc);
  bind(library, "cublasLtMatmulDescDestroy", lt.destroy_desc);
  bind(library, "cublasLtMatmulDescSetAttribute", lt.set_desc);
  bind(library, "cublasLtMatrixLayoutCreate", lt.create_layout);
  bind(library, "cublasLtMatrixLayoutDestroy", lt.destroy_layout);
  bind(library, "cublasLtMatmulPreferenceCreate", lt.create_preference);
  bind(library, "cublasLtMatmulPreferenceDestroy", lt.destroy_preference);
  bind(library, "cublasLtMatmulPreferenceSetAttribute", lt.set_preference);
  bind(library, "cublasLtMatmulAlgoGetHeuristic", lt.heuristic);
  bind(library, "cublasLtMatmul", lt.matmul);
  return lt;
}

}  // namespace

const CublasLt& CublasLt::load() {
  static const CublasLt library = bind_all();
  return library;
}

}  // namespace kvasir::kernels
