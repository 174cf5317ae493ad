// The Bernoulli distribution over a logit x: p = 1 / (1 + exp(-x)) is the probability of 1.
#pragma once

#include <cstdint>

#include "distributions/terms.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

template <typename T>
struct Bernoulli {
  using Action = std::int64_t;
  static constexpr bool kHasSecond = false;
  static constexpr bool kHasQuadrature = false;
  static constexpr bool kDrawsNormal = false;

  // Formed from exp(-|x|), which neither overflows nor cancels.
  struct Probabilities {
    T one, zero, log_one, log_zero;
  };
  PPO_HD static Probabilities probabilities(T x) {
    const T e = math::exp(-math::abs(x));
    const T log_sum = math::log1p(e);
    const T larger = T(1) / (T(1) + e);
    const T smaller = e * larger;
    const bool positive = x >= T(0);
    return {positive ? larger : smaller, positive ? smaller : larger,
            (positive ? T(0) : x) - log_sum, (positive ? -x : T(0)) - log_sum};
  }

  PPO_HD static bool possible(T x, T) { return x == x; }
  PPO_HD static bool possible_action(Action action) { return (action == 0) | (action == 1); }

  PPO_HD static Terms<T> terms(T x, T, Action action) {
    const Probabilities p = probabilities(x);
    const bool is_one = action != 0;
    const T variance = p.one * p.zero;
    const T entropy = -(p_log_p(p.one, p.log_one) + p_log_p(p.zero, p.log_zero));
    return {is_one ? p.log_one : p.log_zero,         entropy, is_one ? p.zero : -p.one, T(0),
            variance == T(0) ? T(0) : -x * variance, T(0)};
  }

  PPO_HD static Slope<T> divergence(T old_x, T, T x, T) {
    const Probabilities old = probabilities(old_x);
    const Probabilities now = probabilities(x);
    const T one = old.one == T(0) ? T(0) : old.one * (old.log_one - now.log_one);
    const T zero = old.zero == T(0) ? T(0) : old.zero * (old.log_zero - now.log_zero);
    return {one + zero, now.one - old.one, T(0)};
  }

  PPO_HD static Action mode(T x, T) { return x > T(0) ? 1 : 0; }
  PPO_HD static Action draw(T x, T, double uniform) {
    return uniform < static_cast<double>(probabilities(x).one) ? 1 : 0;
  }
};

}  // namespace ppo::inline PPO_ISA
