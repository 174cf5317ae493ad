// The clipped surrogate and its companions for one sample, each with its derivative.
//
// J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal Policy Optimization
// Algorithms" (2017), eq. 7: J = mean(min(r A, clip(r, 1 - eps, 1 + eps) A)) with r = exp(logp -
// old_logp). KL estimators: J. Schulman, "Approximating KL Divergence" (2020).
#pragma once

#include "ppo_fast/host_device.h"
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
  // (-inf) - (-inf) is a NaN that means 0; any other NaN stays one.
  const T log = inside == inside ? inside : (logp == old_logp ? T(0) : inside);
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

// k1 = -log r and k3 = r - 1 - log r both estimate KL(old || new); k3 is never negative. Near r = 1 the
// difference would cancel, so there it is the series of exp(x) - 1 - x.
template <typename T>
PPO_HD T kl_k3(const Ratio<T>& ratio) {
  const T x = ratio.log;
  T p = T(1.0 / 40320);
  p = p * x + T(1.0 / 5040);
  p = p * x + T(1.0 / 720);
  p = p * x + T(1.0 / 120);
  p = p * x + T(1.0 / 24);
  p = p * x + T(1.0 / 6);
  p = p * x + T(0.5);
  const T near_one = p * x * x;
  const T elsewhere = (ratio.value - T(1)) - x;
  const bool is_near = (x > T(-0.0625)) & (x < T(0.0625));
  return is_near ? near_one : elsewhere;
}

// (A - mean) / (std + 1e-8)
template <typename T>
PPO_HD T normalized(T advantage, T mean, T scale) {
  return (advantage - mean) / scale;
}

}  // namespace ppo::inline PPO_ISA
