// The clipped surrogate and its companions for one sample, each with its derivative.
//
// J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal Policy Optimization
// Algorithms" (2017), eq. 7: J = mean(min(r A, clip(r, 1 - eps, 1 + eps) A)) with r = exp(logp -
// old_logp). KL estimators: J. Schulman, "Approximating KL Divergence" (2020).
#pragma once

#include <limits>

#include "ppo_fast/host_device.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

// Log-ratios beyond this are limited: exp would overflow float32, and no gradient of use remains.
inline constexpr double kMostLogRatio = 60.0;

template <typename T>
struct Ratio {
  T log;      // within +-kMostLogRatio
  T value;    // exp(log)
  T limited;  // 1 if the true log-ratio was beyond the limit, or of two impossible actions; else 0
};

template <typename T>
PPO_HD Ratio<T> importance_ratio(T logp, T old_logp) {
  constexpr T kMost = static_cast<T>(kMostLogRatio);
  const T difference = logp - old_logp;
  const T below = difference < -kMost ? -kMost : difference;
  const T inside = below > kMost ? kMost : below;
  // (-inf) - (-inf) is a NaN that means 0; any other NaN stays one.
  const T log = inside == inside ? inside : (logp == old_logp ? T(0) : inside);
  const T limited = difference <= kMost ? T(0) : T(1);
  return {log, math::exp(log), difference >= -kMost ? limited : T(1)};
}

template <typename T>
struct Surrogate {
  T value;
  T gradient;  // d value / d logp
};

// Bounds of the ratio, formed in double; infinite ones never bind.
template <typename T>
struct Bounds {
  T low, high;
  T dual_clip;
};

// min(r A, clip(r, low, high) A), and with dual clipping, for A < 0, max(that, dual_clip A): D. Ye et
// al., "Mastering Complex Control in MOBA Games with Deep Reinforcement Learning" (2020), eq. 5.
// Bounds are inclusive: at the bound the gradient is still that of r A, as in the clamp of every
// autograd.
template <typename T>
PPO_HD Surrogate<T> clipped_surrogate(const Ratio<T>& ratio, T advantage, const Bounds<T>& bounds) {
  const T r = ratio.value;
  const T above = r < bounds.low ? bounds.low : r;
  const T clipped = above > bounds.high ? bounds.high : above;
  const T plain = r * advantage;
  const T limited = clipped * advantage;
  const bool takes_plain = (plain < limited) | (clipped == r);
  const bool takes_dual = (advantage < T(0)) & (r > bounds.dual_clip);
  const bool has_gradient = takes_plain & !takes_dual & (ratio.limited == T(0));
  const T value = takes_plain ? plain : limited;
  return {takes_dual ? bounds.dual_clip * advantage : value, has_gradient ? plain : T(0)};
}

// 1 if the ratio is beyond a bound, else 0.
template <typename T>
PPO_HD T is_outside(const Ratio<T>& ratio, const Bounds<T>& bounds) {
  const T above = ratio.value > bounds.high ? T(1) : T(0);
  return ratio.value < bounds.low ? T(1) : above;
}

// logp A. An action that cannot be taken has neither a value nor a gradient.
template <typename T>
PPO_HD Surrogate<T> policy_gradient(T logp, T advantage) {
  constexpr T kNever = -std::numeric_limits<T>::infinity();
  const T value = logp * advantage;
  return {logp == kNever ? T(0) : value, logp == kNever ? T(0) : advantage};
}

// (V_clipped - R)^2 with V_clipped = V_old + clamp(V - V_old, -c, c): stable-baselines3's form, which takes
// no maximum with the unclipped error. An infinite c clips nothing.
template <typename T>
struct ValueError {
  T error;     // V_clipped - R
  T gradient;  // (d error / d V) error
};
template <typename T>
PPO_HD ValueError<T> value_error(T value, T old_value, T target, T c) {
  const T move = value - old_value;
  const T above = move < -c ? -c : move;
  const T limited = above > c ? c : above;
  const bool is_free = limited == move;
  const T error = (is_free ? value : old_value + limited) - target;
  return {error, is_free ? error : T(0)};
}

// k1 = -log r and k3 = r - 1 - log r both estimate KL(old || new); k3 is never negative.
template <typename T>
PPO_HD T kl_k3(const Ratio<T>& ratio) {
  return math::exp_less_line(ratio.log, ratio.value);
}

// (A - mean) / (std + 1e-8)
template <typename T>
PPO_HD T normalized(T advantage, T mean, T scale) {
  return (advantage - mean) / scale;
}

}  // namespace ppo::inline PPO_ISA
