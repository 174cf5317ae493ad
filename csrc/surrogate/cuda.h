// Fused losses on the GPU. Nothing here waits for the device, allocates, or uses another stream than the caller's, so
// that calls may be captured in a graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "surrogate/cpu.h"

namespace ppo {

// Coefficients in device memory, where they may change between two runs of a graph; null: they are numbers.
struct DeviceCoefficients {
  const double* clip_range = nullptr;
  const double* clip_range_high = nullptr;
  const double* dual_clip = nullptr;
  const double* clip_range_values = nullptr;
  const double* kl_coef = nullptr;
  const double* kl_hinge = nullptr;
  const double* kl_hinge_from = nullptr;
  const double* entropy_coef = nullptr;
  const double* value_coef = nullptr;
};

namespace cuda {

// Bytes of scratch memory on the device that a call needs.
std::ptrdiff_t scratch_bytes(const LossCall<float>& call);
std::ptrdiff_t scratch_bytes(const LossCall<double>& call);

// A call of device memory, `scratch`, `stats` and the loss included; only `sizes` is the host's, and copied. A
// coefficient that is in device memory has a number here as well, which is not 0.
cudaError_t start(const LossCall<float>& call, const DeviceCoefficients& coefficients, float* loss,
                  cudaStream_t stream);
cudaError_t start(const LossCall<double>& call, const DeviceCoefficients& coefficients,
                  double* loss, cudaStream_t stream);

}  // namespace cuda
}  // namespace ppo
