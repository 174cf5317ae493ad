// The warps of warps.h on a GPU. Floor of a sample with two actions in float32: 44 bytes, read and written; what a head
// keeps of it in between (scratch) stays in the first-level cache.

// A thread is one of the lanes that the CPU has in a vector.
#define PPO_ISA one_lane
#define PPO_LANES 1

#include "surrogate/cuda.h"

#include <type_traits>

#include "distributions/heads.h"
#include "ppo_fast/launch.h"
#include "surrogate/warps.h"

namespace ppo::cuda {
namespace {

// Heads of so few columns keep them in registers.
constexpr int kFewColumns = 4;

template <typename T>
bool has_few_columns(const Distribution<T>& dist) {
  return std::is_same_v<T, float> && dist.dims <= kFewColumns && dist.sizes == nullptr;
}

// Calls body.template operator()<Head>() with the head of a call.
template <typename T, typename Body>
void with_head_of(const Distribution<T>& dist, const Body& body) {
  if constexpr (std::is_same_v<T, float>) {
    if (has_few_columns(dist)) return with_head<T, kFewColumns>(dist.family, body);
  }
  with_head<T>(dist.family, body);
}

// Shares out the scratch memory; returns how much of it there must be.
template <typename T>
std::ptrdiff_t place(DeviceLoss<T>& d) {
  constexpr std::ptrdiff_t kAlign = 256;
  auto* memory = static_cast<char*>(d.call.scratch);
  std::ptrdiff_t used = 0;
  const auto take = [&]<typename Item>(Item*& to, std::ptrdiff_t count) {
    to = memory == nullptr ? nullptr : reinterpret_cast<Item*>(memory + used);
    const std::ptrdiff_t bytes = count * static_cast<std::ptrdiff_t>(sizeof(Item));
    used += (bytes + kAlign - 1) / kAlign * kAlign;
  };
  const Distribution<T>& dist = d.call.policy.dist;
  d.head_bytes =
      has_few_columns(dist) ? 0 : ppo::scratch_bytes(dist) + ppo::scratch_bytes(d.call.old);
  d.cut = cut_samples(d.call.batch, d.head_bytes);
  take(d.spreads, d.cut.warps + 1);
  take(d.sums, d.rows() * d.cut.warps);
  take(d.far, d.cut.warps + 1);
  take(d.totals, kNumSums + 1);
  take(d.mean_kl, 1);
  take(d.heads, d.cut.warps * d.head_bytes);
  return used;
}

template <typename T>
cudaError_t run(const LossCall<T>& call, const DeviceCoefficients& coefficients, T* loss,
                cudaStream_t stream) {
  DeviceLoss<T> d = {};
  d.call = call;
  d.coefficients = coefficients;
  d.loss = loss;
  place(d);
  const Distribution<T>& dist = call.policy.dist;
  d.components.take(dist);

  cudaError_t error = cudaSuccess;
  const auto warps = [&](const auto& body) {
    if (error == cudaSuccess) error = for_each_warp(d.cut.warps, stream, body);
  };
  const auto block = [&](const auto& body) {
    if (error == cudaSuccess) error = in_one_block(stream, body);
  };
  if (d.counts_samples()) {
    warps(CountSamples<T>{d});
    block(JoinCounts<T>{d});
  }
  if (dist.batch == 0) {
    warps(LossOfLogp<T>{d});
  } else {
    with_head_of(dist, [&]<typename Head>() {
      if (d.needs_mean_kl()) {
        warps(SumKl<T, Head>{d});
        block(JoinKl<T>{d});
      }
      warps(LossOfDistribution<T, Head>{d});
    });
  }
  block(FinishLoss<T>{d});
  return error;
}

template <typename T>
std::ptrdiff_t bytes_of(const LossCall<T>& call) {
  DeviceLoss<T> d = {};
  d.call = call;
  d.call.scratch = nullptr;
  return place(d);
}

}  // namespace

std::ptrdiff_t scratch_bytes(const LossCall<float>& call) { return bytes_of(call); }
std::ptrdiff_t scratch_bytes(const LossCall<double>& call) { return bytes_of(call); }

cudaError_t start(const LossCall<float>& call, const DeviceCoefficients& coefficients, float* loss,
                  cudaStream_t stream) {
  return run(call, coefficients, loss, stream);
}
cudaError_t start(const LossCall<double>& call, const DeviceCoefficients& coefficients,
                  double* loss, cudaStream_t stream) {
  return run(call, coefficients, loss, stream);
}

}  // namespace ppo::cuda
