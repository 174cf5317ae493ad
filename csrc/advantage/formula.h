// Generalized advantage estimation, one element at a time.
//
// J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel, "High-Dimensional Continuous Control
// Using Generalized Advantage Estimation" (2016), eq. 11-16, with the end of an episode split as
// Gymnasium does: a terminated episode is worth nothing after its end, a truncated one is worth
// V(final_obs).
#pragma once

#include "support/host_device.h"

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

// A_t = delta_t + gamma lambda (1 - done_t) A_{t+1}; the product gamma lambda is formed in double
// and rounded once.
template <typename T>
PPO_HD T gae_advantage(T delta, T gamma_lambda, bool done, T next_advantage) {
  const T carried = delta + gamma_lambda * next_advantage;
  return done ? delta : carried;
}

}  // namespace ppo::inline PPO_ISA
