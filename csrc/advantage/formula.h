// The advantage estimators, one element at a time. All of them are one linear recurrence,
//
//     A_t = delta_t + c_t A_{t+1},
//
// run backward in time; they differ in delta_t and c_t.
//
// GAE:     J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel, "High-Dimensional Continuous
//          Control Using Generalized Advantage Estimation" (2016), eq. 11-16, with the end of an
//          episode split as Gymnasium does: a terminated episode is worth nothing after its end, a
//          truncated one is worth V(final_obs).
// V-trace: L. Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted
//          Actor-Learner Architectures" (2018), eq. 1.
#pragma once

#include "ppo_fast/host_device.h"

namespace ppo::inline PPO_ISA {

// V'_t, the value after transition t. Selects, never multiplies: 0 * NaN is NaN.
template <typename T>
PPO_HD T value_after(bool terminated, bool truncated, T final_value, T next_value) {
  const T bootstrap = truncated ? final_value : next_value;
  return terminated ? T(0) : bootstrap;
}

// delta_t = r_t + gamma V'_t - V_t
template <typename T>
PPO_HD T td_error(T reward, T gamma, T value_after, T value) {
  return reward + gamma * value_after - value;
}

// The coefficient of a transition that nothing is carried back over. True coefficients are never
// negative; a zero would not do, because 0 * NaN is NaN.
template <typename T>
inline constexpr T kCut = T(-1);

// A_t = delta_t + c_t A_{t+1}; for GAE c_t is gamma lambda, formed in double and rounded once.
// Of numbers, or of vectors (support/vector.h).
template <typename T>
PPO_HD void recur(const T& delta, const T& coefficient, T& carry) {
  const T carried = delta + coefficient * carry;
  carry = coefficient < T{} ? delta : carried;
}

// min(rho_bar, rho_t); NaN stays NaN.
template <typename T>
PPO_HD T clipped_weight(T rho, T limit) {
  return rho > limit ? limit : rho;
}

}  // namespace ppo::inline PPO_ISA
