#include "kernels/gemm/wide_gemm_cuda.h"

#include <map>
#include <tuple>

#include "base/check.h"
#include "kernels/gemm/cublas_lt.h"

namespace kvasir::kernels {
namespace {

cudaDataType_t data_type(DType dtype) {
  return dtype == DType::kF32 ? CUDA_R_32F : dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_16F;
}

void check(const CublasLt& lt, CublasLt::Status status, const char* what) {
  if (status != 0)
    throw Error(ErrorCode::kInternal, std::string(what) + ": " + lt.status_string(status),
                "cuBLASLt");
}

}  // namespace

struct WideGemm::Impl {
  // Everything that the library's choice of a kernel depends on.
  using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, DType, DType, bool, bool>;
  struct Plan {
    CublasLt::Desc desc = nullptr;
    CublasLt::Layout weight = nullptr, a = nullptr, c = nullptr;
    CublasLt::Algorithm algorithm{};
  };

  const CublasLt& lt = CublasLt::load();
  CublasLt::Handle handle = nullptr;
  CublasLt::Preference preference = nullptr;
  std::byte* workspace = nullptr;
  std::map<Key, Plan> plans;

  ~Impl() {
    drop_plans();
    if (preference) lt.destroy_preference(preference);
    if (handle) lt.destroy(handle);
  }

  void drop_plans() {
    for (auto& [key, plan] : plans) {
      lt.destroy_layout(plan.c);
      lt.destroy_layout(plan.a);
      lt.destroy_layout(plan.weight);
      lt.destroy_desc(plan.desc);
    }
    plans.clear();
  }

  // Row-major [rows, columns] is column-major [columns, rows]: C^T = W A^T.
  const Plan& plan_for(const WideGemmArgs& args) {
    const Key key{args.m,
                  args.n,
                  args.k,
                  args.a_row_stride,
                  args.c_row_stride,
                  args.dtype,
                  args.c_dtype,
                  args.bias != nullptr,
                  args.epilogue == Epilogue::kAdd};
    if (const auto found = plans.find(key); found != plans.end()) return found->second;
    // Lengths of last chunks differ without end; starting anew costs tens of microseconds a shape.
    if (plans.size() >= 1024) drop_plans();
    Plan& plan = plans[key];
    const auto type = data_type(args.dtype), c_type = data_type(args.c_dtype);
    check(lt, lt.create_desc(&plan.desc, CublasLt::kCompute32F, CUDA_R_32F),
          "describing a product");
    set(plan.desc, CublasLt::kDescTransposeA, CublasLt::kTranspose);
    if (args.bias) {
      set(plan.desc, CublasLt::kDescEpilogue, CublasLt::kEpilogueBias);
      set(plan.desc, CublasLt::kDescBias, args.bias);
      set(plan.desc, CublasLt::kDescBiasType, static_cast<int>(c_type));
    }
    const auto n = static_cast<uint64_t>(args.n), k = static_cast<uint64_t>(args.k);
    const auto m = static_cast<uint64_t>(args.m);
    check(lt, lt.create_layout(&plan.weight, type, k, n, args.k), "describing W");
    check(lt, lt.create_layout(&plan.a, type, k, m, args.a_row_stride), "describing A");
    check(lt, lt.create_layout(&plan.c, c_type, n, m, args.c_row_stride), "describing C");
    CublasLt::Heuristic chosen{};
    int found = 0;
    check(lt,
          lt.heuristic(handle, plan.desc, plan.weight, plan.a, plan.c, plan.c, preference, 1,
                       &chosen, &found),
          "choosing a kernel");
    KVASIR_CHECK(found > 0, "cuBLASLt has no kernel for this product");
    plan.algorithm = chosen.algorithm;
    return plan;
  }

  template <class T>
  void set(CublasLt::Desc desc, int attribute, const T& value) {
    check(lt, lt.set_desc(desc, attribute, &value, sizeof(value)), "describing a product");
  }
};

WideGemm::WideGemm(std::byte* workspace) : impl_(std::make_unique<Impl>()) {
  const CublasLt& lt = impl_->lt;
  impl_->workspace = workspace;
  check(lt, lt.create(&impl_->handle), "starting");
  check(lt, lt.create_preference(&impl_->preference), "starting");
  check(lt,
        lt.set_preference(impl_->preference, CublasLt::kPreferWorkspace, &kWorkspaceBytes,
                          sizeof(kWorkspaceBytes)),
        "starting");
}

WideGemm::~WideGemm() = default;

void WideGemm::run(const cuda::Context& context, const WideGemmArgs& args) {
  KVASIR_CHECK(args.epilogue != Epilogue::kSiluMul, "wide products have no gated epilogue");
  KVASIR_CHECK(args.epilogue != Epilogue::kAdd || args.c_dtype == DType::kF32);
  if (args.m == 0) return;
  Impl& impl = *impl_;
  const Impl::Plan& plan = impl.plan_for(args);
  if (args.bias) impl.set(plan.desc, CublasLt::kDescBias, args.bias);
  const float one = 1, beta = args.epilogue == Epilogue::kAdd ? 1.0f : 0.0f;
  check(impl.lt,
        impl.lt.matmul(impl.handle, plan.desc, &one, args.weight, plan.weight, args.a, plan.a,
                       &beta, args.c, plan.c, args.c, plan.c, &plan.algorithm, impl.workspace,
                       kWorkspaceBytes, context.stream),
        "multiplying");
}

}  // namespace kvasir::kernels
