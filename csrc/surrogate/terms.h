// What a group of samples adds to the sums of a loss, and the gradients of its samples.
#pragma once

#include "distributions/lanes.h"
#include "surrogate/formula.h"
#include "surrogate/samples.h"
#include "surrogate/sums.h"

namespace ppo::inline PPO_ISA {

// What the samples of a group are given beside the policy, per lane; zeros where a column is absent.
template <typename T>
struct Inputs {
  Lane<T> old_logp, advantage, value, target, old_value;
};
template <typename T>
PPO_HD Inputs<T> load_inputs(const LossCall<T>& a, const Group& g) {
  return {load_lane_or_zero(g, a.old_logp), load_lane_or_zero(g, a.advantages),
          load_lane_or_zero(g, a.values), load_lane_or_zero(g, a.returns),
          load_lane_or_zero(g, a.old_values)};
}

// What the terms of a sample of weight 1 weigh in the gradient of the loss.
struct Scales {
  double policy, value, entropy, kl;
};

// total: the weight of all samples; kl_weight: of the mean KL in the loss.
PPO_HD Scales scales_of(const LossCoefficients& a, double total, double kl_weight) {
  return {-1.0 / total, 2.0 * a.value_coef / total, -a.entropy_coef / total, kl_weight / total};
}

// The same of the samples of a group, per lane.
template <typename T>
struct Shares {
  Lane<T> policy, value, entropy, kl;
};

template <typename T>
PPO_HD Shares<T> shares_of(const Lane<double>& weights, const Scales& scales) {
  Shares<T> s;
  for (int l = 0; l < kLanes; ++l) {
    s.policy[l] = static_cast<T>(scales.policy * weights[l]);
    s.value[l] = static_cast<T>(scales.value * weights[l]);
    s.entropy[l] = static_cast<T>(scales.entropy * weights[l]);
    s.kl[l] = static_cast<T>(scales.kl * weights[l]);
  }
  return s;
}

// Ratios of a group, some of which may be limited.
template <typename T>
PPO_HD_CALL void add_ratios(const Lane<double>& weights, const Lane<T>& ratio,
                            const Lane<T>& limited, const Lane<T>& logp, const Lane<T>& old_logp,
                            Sums& sums) {
  Lane<double> squared;
  int any_limited = 0;
  for (int l = 0; l < kLanes; ++l) any_limited |= limited[l] != T(0);
  for (int l = 0; l < kLanes; ++l) {
    const double r = static_cast<double>(ratio[l]);
    const double counted = weights[l] != 0.0 ? r : 0.0;
    squared[l] = r * r;
    sums.ratio_max[l] = counted > sums.ratio_max[l] ? counted : sums.ratio_max[l];
  }
  if (any_limited == 0) {
    sums[kSumRatio].add(weights, ratio);
    sums[kSumRatioSquared].add(weights, squared);
    return;
  }
  Lane<double> near = weights;
  for (int l = 0; l < kLanes; ++l) {
    if (limited[l] == T(0) || weights[l] == 0.0) continue;
    near[l] = 0.0;
    // Two impossible actions are as likely as each other.
    const double log_ratio = logp[l] == old_logp[l]
                                 ? 0.0
                                 : static_cast<double>(logp[l]) - static_cast<double>(old_logp[l]);
    sums.far.limited += weights[l] * static_cast<double>(ratio[l]);
    sums.far.add(log_ratio, weights[l], weights[l]);
  }
  sums[kSumRatio].add(near, ratio);
  sums[kSumRatioSquared].add(near, squared);
}

// The policy's part: objective and statistics of the ratio. Returns d loss / d logp.
template <typename T>
PPO_HD_CALL Lane<T> policy_terms(const LossCall<T>& a, const Inputs<T>& inputs,
                                 const Lane<double>& weights, const Lane<T>& logp,
                                 const Lane<T>& share, const Moments& moments, Sums& sums) {
  const T mean = static_cast<T>(moments.mean);
  const T scale = static_cast<T>(moments.scale);
  const Bounds<T> bounds = {static_cast<T>(a.ratio_low), static_cast<T>(a.ratio_high),
                            static_cast<T>(a.dual_clip)};
  const bool has_ratio = a.old_logp.data != nullptr;
  const Lane<T> old_logp = has_ratio ? inputs.old_logp : logp;
  Lane<T> advantage = inputs.advantage;
  Lane<T> value;
  Lane<T> gradient;
  Lane<T> log_ratio;
  Lane<T> ratio;
  Lane<T> k3;
  Lane<T> limited;
  Lane<T> clipped;
  for (int l = 0; l < kLanes; ++l) {
    const Ratio<T> r = importance_ratio(logp[l], old_logp[l]);
    const T scaled = normalized(advantage[l], mean, scale);
    const Surrogate<T> term = clipped_surrogate(r, scaled, bounds);
    advantage[l] = scaled;
    value[l] = term.value;
    gradient[l] = share[l] * term.gradient;
    log_ratio[l] = -r.log;
    ratio[l] = r.value;
    k3[l] = kl_k3(r);
    limited[l] = r.limited;
    clipped[l] = is_outside(r, bounds);
  }
  if (a.objective == Objective::kPolicyGradient) {
    for (int l = 0; l < kLanes; ++l) {
      const Surrogate<T> term = policy_gradient(logp[l], advantage[l]);
      value[l] = term.value;
      gradient[l] = share[l] * term.gradient;
    }
  }
  sums[kSumObjective].add(weights, value);
  if (!has_ratio) return gradient;
  add_ratios(weights, ratio, limited, logp, old_logp, sums);
  sums[kSumK1].add(weights, log_ratio);
  sums[kSumK3].add(weights, k3);
  sums[kSumClipped].add(weights, clipped);
  sums[kSumLimited].add(weights, limited);
  return gradient;
}

// The value loss, its gradient, and the explained variance. Variances of returns and residuals are
// formed around those of one sample, where they hardly cancel.
template <typename T>
PPO_HD_CALL void value_terms(const LossCall<T>& a, const Group& g, const Inputs<T>& inputs,
                             const Lane<double>& weights, const Lane<T>& share,
                             std::ptrdiff_t origin, Sums& sums) {
  const double first_target = static_cast<double>(a.returns[origin]);
  const double first_residual = static_cast<double>(a.values[origin]) - first_target;
  const T c = static_cast<T>(a.clip_range_values);
  const Lane<T>& value = inputs.value;
  const Lane<T>& target = inputs.target;
  const Lane<T>& old_value = a.old_values.data == nullptr ? value : inputs.old_value;
  Lane<T> squared;
  Lane<T> gradient;
  Lane<double> shifted;
  Lane<double> shifted_squared;
  Lane<double> residual;
  Lane<double> residual_squared;
  for (int l = 0; l < kLanes; ++l) {
    const ValueError<T> term = value_error(value[l], old_value[l], target[l], c);
    squared[l] = term.error * term.error;
    gradient[l] = weighted(share[l], term.gradient);
  }
  for (int l = 0; l < kLanes; ++l) {
    const double wide = static_cast<double>(target[l]);
    shifted[l] = wide - first_target;
    residual[l] = (static_cast<double>(value[l]) - wide) - first_residual;
    shifted_squared[l] = shifted[l] * shifted[l];
    residual_squared[l] = residual[l] * residual[l];
  }
  sums[kSumValueError].add(weights, squared);
  sums[kSumReturns].add(weights, shifted);
  sums[kSumReturnsSquared].add(weights, shifted_squared);
  sums[kSumResidual].add(weights, residual);
  sums[kSumResidualSquared].add(weights, residual_squared);
  store_lane(g, gradient, a.values_gradient);
}

}  // namespace ppo::inline PPO_ISA
