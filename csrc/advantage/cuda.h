// The advantage kernels on the GPU, for any estimator. Nothing here waits for the device, allocates, or uses
// another stream than the caller's, so that calls may be captured in a graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "advantage/arguments.h"
#include "advantage/cut.h"

namespace ppo::cuda {

// Bytes of scratch memory on the device that a call needs: what each part hands on, none where time is one part.
template <typename Arguments>
std::ptrdiff_t scratch_bytes(const Arguments&, const Cut& cut) {
  constexpr auto kBytes = static_cast<std::ptrdiff_t>(sizeof(typename Arguments::HandedOn));
  return cut.parts == 1 ? 0 : cut.num_columns * cut.parts * kBytes;
}

// Arguments whose views, lambdas and starts are of device memory.
cudaError_t start(const GaeArguments<float>& arguments, const Cut& cut, void* scratch,
                  cudaStream_t stream);
cudaError_t start(const GaeArguments<double>& arguments, const Cut& cut, void* scratch,
                  cudaStream_t stream);
cudaError_t start(const VtraceArguments<float>& arguments, const Cut& cut, void* scratch,
                  cudaStream_t stream);
cudaError_t start(const VtraceArguments<double>& arguments, const Cut& cut, void* scratch,
                  cudaStream_t stream);
cudaError_t start(const TokenArguments<float>& arguments, const Cut& cut, void* scratch,
                  cudaStream_t stream);
cudaError_t start(const TokenArguments<double>& arguments, const Cut& cut, void* scratch,
                  cudaStream_t stream);

}  // namespace ppo::cuda
