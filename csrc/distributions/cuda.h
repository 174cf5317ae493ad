// Distribution kernels on the GPU. Nothing here waits for the device, allocates, or uses another stream than the caller's,
// so that calls may be captured in a graph. Views are of device memory; only `sizes` is the host's, and copied.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "distributions/cpu.h"

namespace ppo::cuda {

// Components of a multi-categorical distribution.
inline constexpr std::ptrdiff_t kMostComponents = 128;

// Bytes of scratch memory on the device for calls of these distributions; old: of batch 0 if there is none.
template <typename T>
std::ptrdiff_t scratch_bytes(const Distribution<T>& dist, const Distribution<T>& old);

// device_step: the step in device memory instead of call.step, or null.
template <typename T>
cudaError_t start(const SampleCall<T>& call, const std::int64_t* device_step, cudaStream_t stream);
template <typename T>
cudaError_t start(const EvaluateCall<T>& call, cudaStream_t stream);
template <typename T>
cudaError_t start(const KlCall<T>& call, cudaStream_t stream);
template <typename T>
cudaError_t start(const BackwardCall<T>& call, cudaStream_t stream);

}  // namespace ppo::cuda
