// The blocks of column_blocks.h and the warps of row_warps.h and token_warps.h on a GPU. Floor of gae: 17 bytes an element in
// float32; with several parts the first pass reads 9 more, from the second-level cache where it holds them.
#include "advantage/cuda.h"

#include "advantage/column_blocks.h"
#include "advantage/row_warps.h"
#include "advantage/token_warps.h"
#include "ppo_fast/launch.h"

namespace ppo::cuda {
namespace {

template <typename Elements>
struct SummarizeColumns {
  typename Elements::Arguments arguments;
  Cut cut;
  Summary* summaries;

  PPO_HD void operator()(std::ptrdiff_t b, const Block& block) const {
    summarize_columns<Elements>(arguments, cut, share_of(cut, b), block, summaries);
  }
};

template <typename Elements>
struct ComputeColumns {
  typename Elements::Arguments arguments;
  Cut cut;
  const Summary* summaries;

  PPO_HD void operator()(std::ptrdiff_t b, const Block& block) const {
    compute_columns<Elements>(arguments, cut, share_of(cut, b), block, summaries);
  }
};

template <typename Elements>
struct SummarizeRows {
  typename Elements::Arguments arguments;
  Cut cut;
  Summary* summaries;

  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    summarize_row<Elements>(arguments, cut, share_of(cut, w), warp, summaries);
  }
};

template <typename Elements>
struct ComputeRows {
  typename Elements::Arguments arguments;
  Cut cut;
  const Summary* summaries;

  PPO_HD void operator()(std::ptrdiff_t w, const Warp& warp) const {
    compute_row<Elements>(arguments, cut, share_of(cut, w), warp, summaries);
  }
};

template <typename Elements>
cudaError_t run(const typename Elements::Arguments& a, const Cut& cut, void* scratch,
                cudaStream_t stream) {
  if (cut.num_steps == 0 || cut.num_columns == 0) return cudaSuccess;
  auto* summaries = static_cast<Summary*>(scratch);
  cudaError_t error = cudaSuccess;
  if (cut.along_time) {
    if (cut.parts > 1) {
      error = for_each_warp(cut.shares(), stream, SummarizeRows<Elements>{a, cut, summaries});
    }
    if (error != cudaSuccess) return error;
    return for_each_warp(cut.shares(), stream, ComputeRows<Elements>{a, cut, summaries});
  }
  const auto blocks = [&](const auto& body) {
    return for_each_block(cut.shares(), static_cast<int>(cut.block_warps),
                          ColumnMemory::bytes(cut.block_warps), stream, body);
  };
  if (cut.parts > 1) error = blocks(SummarizeColumns<Elements>{a, cut, summaries});
  return error != cudaSuccess ? error : blocks(ComputeColumns<Elements>{a, cut, summaries});
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
    cudaError_t error =
        for_each_warp(cut.shares(), stream, SummarizeTokenValues<T>{a, cut, values});
    if (error != cudaSuccess) return error;
    error = for_each_warp(cut.shares(), stream, SummarizeTokens<T>{a, cut, values, summaries});
    if (error != cudaSuccess) return error;
  }
  return for_each_warp(cut.shares(), stream, ComputeTokens<T>{a, cut, values, summaries});
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
