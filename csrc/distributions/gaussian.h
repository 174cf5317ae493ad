// The normal distribution with mean m and standard deviation s = exp(log_std).
#pragma once

#include <limits>

#include "distributions/terms.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

// exp, finite also where it would overflow: 0 times it must stay 0.
template <typename T>
PPO_HD T limited_exp(T x) {
  constexpr T kMost = std::numeric_limits<T>::max();
  const T value = math::exp(x);
  return value < kMost ? value : kMost;
}

template <typename T>
struct Gaussian {
  using Action = T;
  static constexpr bool kHasSecond = true;
  static constexpr bool kHasQuadrature = false;
  static constexpr bool kDrawsNormal = true;
  static constexpr double kHalfLogTwoPi = 0.91893853320467274178;

  PPO_HD static bool possible(T mean, T log_std) {
    return ((mean - mean) == T(0)) & ((log_std - log_std) == T(0));
  }

  // log p = -z^2 / 2 - log s - log(2 pi) / 2 with z = (a - m) / s;  H = log s + log(2 pi e) / 2.
  PPO_HD static Terms<T> terms(T mean, T log_std, Action action) {
    const T inverse = limited_exp(-log_std);
    const T z = (action - mean) * inverse;
    return {T(-0.5) * z * z - (log_std + T(kHalfLogTwoPi)),
            log_std + T(kHalfLogTwoPi + 0.5),
            z * inverse,
            z * z - T(1),
            T(0),
            T(1)};
  }

  // KL = (exp(2 d) - 1 - 2 d) / 2 + ((m_old - m) / s)^2 / 2 with d = log(s_old / s).
  PPO_HD static Slope<T> divergence(T old_mean, T old_log_std, T mean, T log_std) {
    const T inverse = limited_exp(-log_std);
    const T z = (old_mean - mean) * inverse;
    const T twice = T(2) * (old_log_std - log_std);
    const T ratio = math::exp(twice);
    return {T(0.5) * (math::exp_less_line(twice, ratio) + z * z), -z * inverse,
            (T(1) - ratio) - z * z};
  }

  PPO_HD static Action mode(T mean, T) { return mean; }
  PPO_HD static Action draw(T mean, T log_std, double normal) {
    return mean + math::exp(log_std) * static_cast<T>(normal);
  }
};

}  // namespace ppo::inline PPO_ISA
