// What a loss adds up over samples, and the statistics that are made of it.
#pragma once

#include <cmath>
#include <limits>

#include "distributions/lanes.h"
#include "surrogate/cpu.h"

namespace ppo::inline PPO_ISA {

enum Sum : int {
  kSumObjective,
  kSumValueError,
  kSumEntropy,
  kSumKl,
  kSumK1,
  kSumK3,
  kSumClipped,
  kSumLimited,
  kSumRatio,  // this one and the next without limited ratios
  kSumRatioSquared,
  kSumReturns,
  kSumReturnsSquared,
  kSumResidual,
  kSumResidualSquared,
  kNumSums
};

// Ratios whose logarithm was limited. Beside them a sum of ratios as they were limited would count very different ones
// as equal, so these are sums relative to the largest.
struct FarRatios {
  double limited = 0;                                      // sum w r, r as limited
  double most = -std::numeric_limits<double>::infinity();  // the largest log r
  double sum = 0;                                          // sum w r / exp(most)
  double squares = 0;                                      // sum w (r / exp(most))^2

  // Ratios of which exp(log_ratio) is the largest, with sums relative to it.
  PPO_HD void add(double log_ratio, double more, double more_squares) {
    const double top = log_ratio > most ? log_ratio : most;
    const double ours = most == top ? 1.0 : std::exp(most - top);
    const double theirs = log_ratio == top ? 1.0 : std::exp(log_ratio - top);
    sum = sum * ours + more * theirs;
    squares = squares * (ours * ours) + more_squares * (theirs * theirs);
    most = top;
  }
  PPO_HD void add(const FarRatios& other) {
    limited += other.limited;
    add(other.most, other.sum, other.squares);
  }
};

// Per lane.
struct Sums {
  LaneSum of[kNumSums];
  Lane<double> ratio_max = {};
  FarRatios far;

  PPO_HD LaneSum& operator[](Sum sum) { return of[sum]; }
};

struct Totals {
  double of[kNumSums];
  double ratio_max;
  FarRatios far;

  PPO_HD double operator[](Sum sum) const { return of[sum]; }
};

inline Totals totals_of(const Sums& sums) {
  Totals totals;
  for (int s = 0; s < kNumSums; ++s) totals.of[s] = sums.of[s].total();
  totals.ratio_max = 0;
  for (const double r : sums.ratio_max.x)
    totals.ratio_max = r > totals.ratio_max ? r : totals.ratio_max;
  totals.far = sums.far;
  return totals;
}

// (sum w r)^2 / (W sum w r^2), the number of equally weighted samples that are worth as much, per sample.
PPO_HD double effective_sample_size(const Totals& totals, double weight) {
  FarRatios all = totals.far;
  if (totals[kSumRatioSquared] != 0.0) all.add(0.0, totals[kSumRatio], totals[kSumRatioSquared]);
  const bool none_is_possible = all.most == -std::numeric_limits<double>::infinity();
  return none_is_possible ? 0.0 : all.sum * all.sum / (weight * all.squares);
}

// coefficient * x, where an x without a coefficient may be infinite.
PPO_HD double term(double coefficient, double x) {
  return coefficient == 0.0 ? 0.0 : coefficient * x;
}

PPO_HD double hinge(const LossCoefficients& a, double mean_kl) {
  const double excess = mean_kl - a.kl_hinge_from;
  return excess > 0 ? excess : 0.0;
}

// Statistics and loss, from sums over samples of that weight altogether.
template <typename T>
PPO_HD double write_results(const LossCall<T>& a, const Totals& totals, double weight,
                            bool has_kl) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  double* stats = a.stats;
  const bool has_ratio = a.old_logp.data != nullptr;
  const bool has_values = a.values.data != nullptr;
  const auto mean = [&](Sum sum) { return totals[sum] / weight; };
  const auto ratio_stat = [&](Sum sum) { return has_ratio ? mean(sum) : kNaN; };
  const auto variance = [&](Sum sum, Sum squares) { return mean(squares) - mean(sum) * mean(sum); };
  const double returns_variance = variance(kSumReturns, kSumReturnsSquared);
  stats[kPolicyLoss] = -mean(kSumObjective);
  stats[kValueLoss] = has_values ? mean(kSumValueError) : 0.0;
  stats[kEntropy] = mean(kSumEntropy);
  stats[kApproxKl] = ratio_stat(kSumK3);
  stats[kApproxKlK1] = ratio_stat(kSumK1);
  stats[kClipFraction] = ratio_stat(kSumClipped);
  stats[kRatioMean] = has_ratio ? (totals[kSumRatio] + totals.far.limited) / weight : kNaN;
  stats[kRatioMax] = has_ratio ? totals.ratio_max : kNaN;
  stats[kEffectiveSampleSize] = has_ratio ? effective_sample_size(totals, weight) : kNaN;
  stats[kLimitedFraction] = ratio_stat(kSumLimited);
  stats[kExplainedVariance] =
      has_values && returns_variance > 0
          ? 1.0 - variance(kSumResidual, kSumResidualSquared) / returns_variance
          : kNaN;
  stats[kKl] = has_kl ? mean(kSumKl) : kNaN;
  const double beyond = has_kl ? hinge(a, stats[kKl]) : 0.0;
  return stats[kPolicyLoss] + term(a.value_coef, stats[kValueLoss]) -
         term(a.entropy_coef, stats[kEntropy]) + (has_kl ? term(a.kl_coef, stats[kKl]) : 0.0) +
         term(a.kl_hinge, beyond * beyond);
}

}  // namespace ppo::inline PPO_ISA
