// The clipped surrogate and its companions for one sample, each with its derivative.
//
// J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal Policy Optimization
// Algorithms" (2017), eq. 7: J = mean(min(r A, clip(r, 1 - eps, 1 + eps) A)) with r = exp(logp -
// old_logp). KL estimators: J. Schulman, "Approximating KL Divergence" (2020).
#pragma once

#include "support/host_device.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

// Log-ratios beyond this are limited: exp would overflow float32, and no gradient of use remains.
inline constexpr double kMostLogRatio = 60.0;

template <typename T>
struct Ratio {
  T log;         // within +-kMostLogRatio
  T value;       // exp(log)
  bool limited;  // the true log-ratio was beyond the limit, or of two impossible actions
};

template <typename T>
PPO_HD Ratio<T> importance_ratio(T logp, T old_logp) {
  constexpr T kMost = static_cast<T>(kMostLogRatio);
  const T difference = logp - old_logp;
  const T below = difference < -kMost ? -kMost : difference;
  const T inside = below > kMost ? kMost : below;
  const T log = inside == inside ? inside : T(0);  // (-inf) - (-inf)
  return {log, math::exp(log), !(difference >= -kMost && difference <= kMost)};
}

template <typename T>
struct Objective {
  T value;     // min(r A, clip(r) A)
  T gradient;  // d value / d log r
};

// `low` and `high` are 1 -+ clip_range, formed in double. They are inclusive: at the bound the
// gradient is still that of r A, as in the clamp of every autograd.
template <typename T>
PPO_HD Objective<T> clipped_objective(const Ratio<T>& ratio, T advantage, T low, T high) {
  const T r = ratio.value;
  const T clipped = r < low ? low : (r > high ? high : r);
  const T plain = r * advantage;
  const T limited = clipped * advantage;
  const bool takes_plain = (plain < limited) | (clipped == r);
  const T gradient = takes_plain ? plain : T(0);
  return {takes_plain ? plain : limited, ratio.limited ? T(0) : gradient};
}

// k1 = -log r and k3 = r - 1 - log r both estimate KL(old || new); k3 is never negative.
template <typename T>
PPO_HD T kl_k3(const Ratio<T>& ratio) {
  return (ratio.value - T(1)) - ratio.log;
}

// (A - mean) / (std + 1e-8)
template <typename T>
PPO_HD T normalized(T advantage, T mean, T scale) {
  return (advantage - mean) / scale;
}

}  // namespace ppo::inline PPO_ISA
