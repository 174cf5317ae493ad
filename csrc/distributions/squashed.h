// A normal distribution squashed by tanh: the density of tanh(u), u ~ N(m, s). Actions are u, since
// a tanh rounded to 1 has lost it.
//
// T. Haarnoja, A. Zhou, P. Abbeel, S. Levine, "Soft Actor-Critic" (2018), appendix C:
// log p = log N(u; m, s) - log(1 - tanh(u)^2), here in the form that does not cancel.
#pragma once

#include "distributions/gaussian.h"
#include "distributions/terms.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

// log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), and its derivative -2 tanh(u). Both are formed from
// exp(-2 |u|): the first is even in u, the second odd.
template <typename T>
struct LogSlope {
  T value, derivative;
};
template <typename T>
PPO_HD LogSlope<T> log_tanh_slope(T u) {
  constexpr double kLog2 = 0.69314718055994530942;
  const T size = math::abs(u);
  const T e = math::exp(T(-2) * size);
  const T twice_tanh = T(2) * ((T(1) - e) / (T(1) + e));
  return {T(2) * ((T(kLog2) - size) - math::log1p(e)), u < T(0) ? twice_tanh : -twice_tanh};
}

// E[f(z)], z ~ N(0, 1), by the trapezoid rule at z = 0.375 j, |j| <= 16, whose weights add up to 1.
// ppo_fast.distributions.SquashedGaussian says how exact that is.
inline constexpr double kNodeStep = 0.375;
inline constexpr int kNodes = 16;  // on either side of 0
PPO_HD double node_weight(int j) {
  static constexpr double kWeight[kNodes + 1] = {
      0.14960335522368182,   0.13944566026934158,    0.11292653711326407,    0.07945374220473408,
      0.04856909839845596,   0.02579485344762117,    0.011902369444194627,   0.004771568101144718,
      0.0016619431552893154, 0.0005029195778047807,  0.0001322233809524391,  3.0202668223114588e-05,
      5.993902918020112e-06, 1.0334784745865311e-06, 1.5481766214931888e-07, 2.0149622449485932e-08,
      2.2784560697977226e-09};
  return kWeight[j < 0 ? -j : j];
}

template <typename T>
struct SquashedGaussian : Gaussian<T> {
  using typename Gaussian<T>::Action;
  static constexpr bool kHasQuadrature = true;

  // Without the expectation in H = H(normal) + E[log(1 - tanh(u)^2)].
  PPO_HD static Terms<T> terms(T mean, T log_std, Action action) {
    Terms<T> result = Gaussian<T>::terms(mean, log_std, action);
    result.logp -= log_tanh_slope(action).value;
    return result;
  }

  // What point j of the expectation adds to the entropy and its derivatives.
  PPO_HD static Slope<T> node(T mean, T std, int j) {
    const T weight = T(node_weight(j));
    const T distance = std * T(kNodeStep * j);
    const LogSlope<T> f = log_tanh_slope(mean + distance);
    return {weight * f.value, weight * f.derivative, weight * (f.derivative * distance)};
  }
};

}  // namespace ppo::inline PPO_ISA
