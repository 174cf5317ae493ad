// The warps of warps.h on a GPU. Floor of gae: 17 bytes an element in float32; with several parts the first pass reads 9
// more, from the second-level cache where it holds them.
#include "advantage/cuda.h"

#include "advantage/token_warps.h"
#include "advantage/warps.h"
#include "ppo_fast/launch.h"

namespace ppo::cuda {
namespace {

template <typename Elements>
struct Summarize {
  typename Elements::Arguments arguments;
  Cut cut;
  Summary* summaries;

  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    summarize<Elements>(arguments, cut, share_of(cut, w), warp, summaries);
  }
};

template <typename Elements>
struct Compute {
  typename Elements::Arguments arguments;
  Cut cut;
  const Summary* summaries;

  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    compute<Elements>(arguments, cut, share_of(cut, w), warp, summaries);
  }
};

template <typename Elements>
cudaError_t run(const typename Elements::Arguments& a, const Cut& cut, void* scratch,
                cudaStream_t stream) {
  if (cut.num_steps == 0 || cut.num_columns == 0) return cudaSuccess;
  auto* summaries = static_cast<Summary*>(scratch);
  if (cut.parts > 1) {
    const cudaError_t error =
        for_each_warp(cut.warps(), stream, Summarize<Elements>{a, cut, summaries});
    if (error != cudaSuccess) return error;
  }
  return for_each_warp(cut.warps(), stream, Compute<Elements>{a, cut, summaries});
}

template <typename T>
struct SummarizeTokenValues {
  TokenArguments<T> arguments;
  Cut cut;
  Summary* values;

  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    summarize_token_values(arguments, cut, share_of(cut, w), warp, values);
  }
};

template <typename T>
struct SummarizeTokens {
  TokenArguments<T> arguments;
  Cut cut;
  const Summary* values;
  Summary* summaries;

  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    summarize_tokens(arguments, cut, share_of(cut, w), warp, values, summaries);
  }
};

template <typename T>
struct ComputeTokens {
  TokenArguments<T> arguments;
  Cut cut;
  const Summary* values;
  const Summary* summaries;

  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    compute_tokens(arguments, cut, share_of(cut, w), warp, values, summaries);
  }
};

template <typename T>
cudaError_t run(const TokenArguments<T>& a, const Cut& cut, void* scratch, cudaStream_t stream) {
  if (cut.num_steps == 0 || cut.num_columns == 0) return cudaSuccess;
  auto* values = static_cast<Summary*>(scratch);
  Summary* summaries = values + cut.num_columns * cut.parts;
  if (cut.parts > 1) {
    cudaError_t error = for_each_warp(cut.warps(), stream, SummarizeTokenValues<T>{a, cut, values});
    if (error != cudaSuccess) return error;
    error = for_each_warp(cut.warps(), stream, SummarizeTokens<T>{a, cut, values, summaries});
    if (error != cudaSuccess) return error;
  }
  return for_each_warp(cut.warps(), stream, ComputeTokens<T>{a, cut, values, summaries});
}

}  // namespace

cudaError_t start(const GaeArguments<float>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run<GaeElements<float>>(a, cut, scratch, stream);
}
cudaError_t start(const GaeArguments<double>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run<GaeElements<double>>(a, cut, scratch, stream);
}
cudaError_t start(const VtraceArguments<float>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run<VtraceElements<float>>(a, cut, scratch, stream);
}
cudaError_t start(const VtraceArguments<double>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run<VtraceElements<double>>(a, cut, scratch, stream);
}
cudaError_t start(const TokenArguments<float>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run(a, cut, scratch, stream);
}
cudaError_t start(const TokenArguments<double>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run(a, cut, scratch, stream);
}

}  // namespace ppo::cuda
