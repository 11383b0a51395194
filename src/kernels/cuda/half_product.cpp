#include "kernels/cuda/half_product.hpp"

#include <cublasLt.h>
#include <dlfcn.h>

#include <cstddef>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "kernels/cuda/device_buffer.hpp"

namespace mpishards::kernels::cuda {
namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;

/// The functions of cuBLASLt that we call. It is opened when an engine is made: the library has hundreds of
/// megabytes, and the program runs where there is none.
struct CublasLt {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtGetVersion) version;
  decltype(&cublasLtGetStatusString) status_string;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtMatmul) matmul;
};

/// @throws Error{unavailable} naming what was looked for
CublasLt open_cublas_lt() {
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  const std::string installed = std::string(MPISHARDS_CUDA_LIBRARY_DIR) + "/" + name;
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) library = dlopen(installed.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    throw Error(ErrorKind::unavailable, name + " was not found, nor " + installed +
                                            "; put its folder into LD_LIBRARY_PATH or use --engine cpu");
  const auto load = [&](auto& function, const char* symbol) {
    void* const address = dlsym(library, symbol);
    if (address == nullptr)
      throw Error(ErrorKind::unavailable, name + " has no " + symbol + "; use --engine cpu");
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
  };
  CublasLt lt{};
  load(lt.create, "cublasLtCreate");
  load(lt.destroy, "cublasLtDestroy");
  load(lt.version, "cublasLtGetVersion");
  load(lt.status_string, "cublasLtGetStatusString");
  load(lt.desc_create, "cublasLtMatmulDescCreate");
  load(lt.desc_destroy, "cublasLtMatmulDescDestroy");
  load(lt.desc_set, "cublasLtMatmulDescSetAttribute");
  load(lt.layout_create, "cublasLtMatrixLayoutCreate");
  load(lt.layout_destroy, "cublasLtMatrixLayoutDestroy");
  load(lt.preference_create, "cublasLtMatmulPreferenceCreate");
  load(lt.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  load(lt.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  load(lt.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  load(lt.matmul, "cublasLtMatmul");
  return lt;  // the library stays open as long as the process
}

const CublasLt& cublas_lt() {
  static const CublasLt functions = open_cublas_lt();
  return functions;
}

void check_cublas(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorKind::cuda, std::string(call) + ": " + cublas_lt().status_string(status));
}

/// Owner of one of cuBLASLt's descriptions.
template <class Handle>
class Description {
 public:
  using Destroy = cublasStatus_t (*)(Handle);
  Description(Handle handle, Destroy destroy) : handle_(handle), destroy_(destroy) {}
  Description(Description&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), destroy_(other.destroy_) {}
  Description& operator=(Description&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(destroy_, other.destroy_);
    return *this;
  }
  ~Description() {
    if (handle_ != nullptr) destroy_(handle_);
  }
  Handle get() const { return handle_; }

 private:
  Handle handle_;
  Destroy destroy_;
};

Description<cublasLtMatmulDesc_t> make_operation() {
  cublasLtMatmulDesc_t handle = nullptr;
  check_cublas(cublas_lt().desc_create(&handle, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
  Description<cublasLtMatmulDesc_t> operation(handle, cublas_lt().desc_destroy);
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check_cublas(cublas_lt().desc_set(handle, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed),
               "cublasLtMatmulDescSetAttribute");
  return operation;
}

Description<cublasLtMatrixLayout_t> make_layout(cudaDataType type, std::int64_t rows, std::int64_t cols,
                                                std::int64_t pitch) {
  cublasLtMatrixLayout_t handle = nullptr;
  check_cublas(cublas_lt().layout_create(&handle, type, narrow<std::uint64_t>(rows),
                                         narrow<std::uint64_t>(cols), pitch),
               "cublasLtMatrixLayoutCreate");
  return {handle, cublas_lt().layout_destroy};
}

Description<cublasLtMatmulPreference_t> make_preference() {
  cublasLtMatmulPreference_t handle = nullptr;
  check_cublas(cublas_lt().preference_create(&handle), "cublasLtMatmulPreferenceCreate");
  Description<cublasLtMatmulPreference_t> preference(handle, cublas_lt().preference_destroy);
  check_cublas(cublas_lt().preference_set(handle, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes,
                                          sizeof kWorkspaceBytes),
               "cublasLtMatmulPreferenceSetAttribute");
  return preference;
}

/// A shape with what the library chose for it. The library's matrices are column-major: it sees our rows as
/// columns, so it multiplies (rows^T)^T by queries^T and leaves products^T.
struct PlannedProduct {
  HalfProductShape shape;
  Description<cublasLtMatrixLayout_t> rows;
  Description<cublasLtMatrixLayout_t> queries;
  Description<cublasLtMatrixLayout_t> products;
  cublasLtMatmulAlgo_t algorithm{};
};

}  // namespace

struct HalfProduct::State {
  explicit State(const Stream& stream) : operation(make_operation()), preference(make_preference()) {
    workspace.reserve(stream, static_cast<std::int64_t>(kWorkspaceBytes));
    stream.use_device();
    check_cublas(cublas_lt().create(&handle), "cublasLtCreate");  // last: nothing after it throws
  }
  State(const State&) = delete;
  ~State() {
    if (handle != nullptr) cublas_lt().destroy(handle);
  }

  const PlannedProduct& planned(const HalfProductShape& shape);

  Description<cublasLtMatmulDesc_t> operation;
  Description<cublasLtMatmulPreference_t> preference;
  cublasLtHandle_t handle = nullptr;
  DeviceBuffer<std::byte> workspace;
  std::vector<PlannedProduct> plans;  // of few shapes: sample, whole tile, last tile
};

const PlannedProduct& HalfProduct::State::planned(const HalfProductShape& shape) {
  constexpr std::size_t kMostPlans = 16;
  for (const PlannedProduct& plan : plans)
    if (plan.shape == shape) return plan;
  if (plans.size() == kMostPlans) plans.erase(plans.begin());
  PlannedProduct plan{shape,
                      make_layout(CUDA_R_16F, shape.cols, shape.rows, shape.row_stride),
                      make_layout(CUDA_R_16F, shape.cols, shape.nq, shape.cols),
                      make_layout(CUDA_R_32F, shape.rows, shape.nq, shape.product_pitch),
                      {}};
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  check_cublas(
      cublas_lt().heuristic(handle, operation.get(), plan.rows.get(), plan.queries.get(), plan.products.get(),
                            plan.products.get(), preference.get(), 1, &result, &found),
      "cublasLtMatmulAlgoGetHeuristic");
  if (found == 0)
    throw Error(ErrorKind::cuda, "cublasLtMatmulAlgoGetHeuristic: no algorithm for " +
                                     std::to_string(shape.nq) + " x " + std::to_string(shape.rows) + " x " +
                                     std::to_string(shape.cols) + " in binary16");
  plan.algorithm = result.algo;
  plans.push_back(std::move(plan));
  return plans.back();
}

HalfProduct::HalfProduct(const Stream& stream) : state_(std::make_unique<State>(stream)) {}
HalfProduct::~HalfProduct() = default;

void HalfProduct::run(const Stream& stream, const HalfProductShape& shape, const std::uint16_t* queries,
                      const std::uint16_t* rows, float* products) {
  const PlannedProduct& plan = state_->planned(shape);
  const float one = 1;
  const float zero = 0;
  check_cublas(cublas_lt().matmul(state_->handle, state_->operation.get(), &one, rows, plan.rows.get(),
                                  queries, plan.queries.get(), &zero, products, plan.products.get(), products,
                                  plan.products.get(), &plan.algorithm, state_->workspace.data(),
                                  kWorkspaceBytes, stream.get()),
               "cublasLtMatmul");
}

std::string HalfProduct::description() const {
  const std::size_t version = cublas_lt().version();  // major * 10000 + minor * 100 + patch
  return "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100);
}

std::size_t HalfProduct::bytes() const {
  return state_->workspace.bytes();
}

}  // namespace mpishards::kernels::cuda
