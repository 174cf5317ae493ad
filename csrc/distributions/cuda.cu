// The warps of warps.h on a GPU. Floor of a draw from two actions in float32: 28 bytes, read and written.

// A thread is one of the lanes that the CPU has in a vector.
#define PPO_ISA one_lane
#define PPO_LANES 1

#include "distributions/cuda.h"

#include "distributions/heads.h"
#include "distributions/warps.h"
#include "ppo_fast/launch.h"

namespace ppo::cuda {
namespace {

template <typename T>
std::ptrdiff_t head_bytes(const Distribution<T>& dist, const Distribution<T>& old) {
  return ppo::scratch_bytes(dist) + ppo::scratch_bytes(old);
}

// The scratch memory begins with what the heads keep.
template <typename T>
WarpSamples samples_of(const Distribution<T>& dist, const Distribution<T>& old, void* scratch) {
  WarpSamples samples = {};
  samples.bytes = head_bytes(dist, old);
  samples.cut = cut_samples(dist.batch, samples.bytes);
  samples.components.take(dist);
  samples.heads = static_cast<char*>(scratch);
  return samples;
}

}  // namespace

template <typename T>
std::ptrdiff_t scratch_bytes(const Distribution<T>& dist, const Distribution<T>& old) {
  const WarpSamples samples = samples_of(dist, old, nullptr);
  const std::ptrdiff_t sums = dist.shares_second ? dist.dims : 0;
  return samples.cut.warps * (samples.bytes + sums * static_cast<std::ptrdiff_t>(sizeof(double)));
}

template <typename T>
cudaError_t start(const SampleCall<T>& call, const std::int64_t* device_step, cudaStream_t stream) {
  const WarpSamples samples = samples_of(call.dist, {}, call.scratch);
  return with_head<T>(call.dist.family, [&]<typename Head>() {
    return for_each_warp(samples.cut.warps, stream,
                         SampleActions<T, Head>{call, device_step, samples});
  });
}

template <typename T>
cudaError_t start(const EvaluateCall<T>& call, cudaStream_t stream) {
  const WarpSamples samples = samples_of(call.dist, {}, call.scratch);
  return with_head<T>(call.dist.family, [&]<typename Head>() {
    return for_each_warp(samples.cut.warps, stream, EvaluateActions<T, Head>{call, samples});
  });
}

template <typename T>
cudaError_t start(const KlCall<T>& call, cudaStream_t stream) {
  const WarpSamples samples = samples_of(call.dist, call.old, call.scratch);
  return with_head<T>(call.dist.family, [&]<typename Head>() {
    return for_each_warp(samples.cut.warps, stream, Divergences<T, Head>{call, samples});
  });
}

template <typename T>
cudaError_t start(const BackwardCall<T>& call, cudaStream_t stream) {
  const WarpSamples samples = samples_of(call.dist, call.old, call.scratch);
  auto* sums = reinterpret_cast<double*>(samples.heads + samples.cut.warps * samples.bytes);
  const cudaError_t error = with_head<T>(call.dist.family, [&]<typename Head>() {
    return for_each_warp(samples.cut.warps, stream, Gradients<T, Head>{call, samples, sums});
  });
  if (error != cudaSuccess || !call.dist.shares_second) return error;
  return in_one_block(stream, AddGradients<T>{call, samples.cut, sums});
}

#define PPO_INSTANTIATE(T)                                                               \
  template std::ptrdiff_t scratch_bytes(const Distribution<T>&, const Distribution<T>&); \
  template cudaError_t start(const SampleCall<T>&, const std::int64_t*, cudaStream_t);   \
  template cudaError_t start(const EvaluateCall<T>&, cudaStream_t);                      \
  template cudaError_t start(const KlCall<T>&, cudaStream_t);                            \
  template cudaError_t start(const BackwardCall<T>&, cudaStream_t);
PPO_INSTANTIATE(float)
PPO_INSTANTIATE(double)

}  // namespace ppo::cuda
