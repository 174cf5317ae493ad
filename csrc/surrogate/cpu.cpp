// The losses: groups of kLossLanes samples, through the head of the policy's family.
#include "surrogate/cpu.h"

#include <cmath>
#include <limits>

#include "distributions/heads.h"
#include "surrogate/formula.h"
#include "surrogate/samples.h"

namespace ppo::inline PPO_ISA {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Sums {
  LaneSum objective, value_error, entropy, kl, k1, k3, clipped, ratio, ratio_squared, limited;
  LaneSum returns, returns_squared, residual, residual_squared;
  Lane<double> ratio_max = {};
};

// What a sample's terms weigh in the gradient of the loss, per lane.
template <typename T>
struct Shares {
  Lane<T> policy, value, entropy, kl;
};

Lane<double> equal_weights() {
  Lane<double> result;
  for (int l = 0; l < kLanes; ++l) result[l] = 1.0;
  return result;
}

template <typename T>
Shares<T> shares_of(const Lane<double>& weights, const LossCall<T>& a, double total,
                    double kl_weight) {
  Shares<T> s;
  for (int l = 0; l < kLanes; ++l) {
    s.policy[l] = static_cast<T>(-weights[l] / total);
    s.value[l] = static_cast<T>(2.0 * a.value_coef * weights[l] / total);
    s.entropy[l] = static_cast<T>(-(a.entropy_coef * weights[l] / total));
    s.kl[l] = static_cast<T>(kl_weight * weights[l] / total);
  }
  return s;
}

// The policy's part: objective and statistics of the ratio. Returns d loss / d logp.
template <typename T>
Lane<T> policy_terms(const LossCall<T>& a, const Group& g, const Lane<double>& weights,
                     const Lane<T>& logp, const Lane<T>& share, const Moments& moments,
                     Sums& sums) {
  const T mean = static_cast<T>(moments.mean);
  const T scale = static_cast<T>(moments.scale);
  const Bounds<T> bounds = {static_cast<T>(a.ratio_low), static_cast<T>(a.ratio_high),
                            static_cast<T>(a.dual_clip)};
  const bool has_ratio = a.old_logp.data != nullptr;
  const Lane<T> old_logp = has_ratio ? load_lane(g, a.old_logp) : logp;
  Lane<T> advantage = load_lane(g, a.advantages);
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
  sums.objective.add(weights, value);
  if (!has_ratio) return gradient;
  Lane<double> squared;
  for (int l = 0; l < kLanes; ++l) {
    const double r = static_cast<double>(ratio[l]);
    const double counted = weights[l] != 0.0 ? r : 0.0;
    squared[l] = r * r;
    sums.ratio_max[l] = counted > sums.ratio_max[l] ? counted : sums.ratio_max[l];
  }
  sums.k1.add(weights, log_ratio);
  sums.k3.add(weights, k3);
  sums.clipped.add(weights, clipped);
  sums.ratio.add(weights, ratio);
  sums.ratio_squared.add(weights, squared);
  sums.limited.add(weights, limited);
  return gradient;
}

// The value loss, its gradient, and the explained variance. Variances of returns and residuals are
// formed around those of one sample, where they hardly cancel.
template <typename T>
void value_terms(const LossCall<T>& a, const Group& g, const Lane<double>& weights,
                 const Lane<T>& share, std::ptrdiff_t origin, Sums& sums) {
  const double first_target = static_cast<double>(a.returns[origin]);
  const double first_residual = static_cast<double>(a.values[origin]) - first_target;
  const T c = static_cast<T>(a.clip_range_values);
  const Lane<T> value = load_lane(g, a.values);
  const Lane<T> target = load_lane(g, a.returns);
  const Lane<T> old_value = a.old_values.data == nullptr ? value : load_lane(g, a.old_values);
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
  sums.value_error.add(weights, squared);
  sums.returns.add(weights, shifted);
  sums.returns_squared.add(weights, shifted_squared);
  sums.residual.add(weights, residual);
  sums.residual_squared.add(weights, residual_squared);
  store_rows(g, 1, &gradient, a.values_gradient);
}

// coefficient * x, where an x without a coefficient may be infinite.
double term(double coefficient, double x) { return coefficient == 0.0 ? 0.0 : coefficient * x; }

template <typename T>
double hinge(const LossCall<T>& a, double mean_kl) {
  const double excess = mean_kl - a.kl_hinge_from;
  return excess > 0 ? excess : 0.0;
}

template <typename T>
void write_results(const LossCall<T>& a, const Sums& sums, double total, bool has_kl) {
  double* stats = a.stats;
  const bool has_ratio = a.old_logp.data != nullptr;
  const bool has_values = a.values.data != nullptr;
  const auto mean = [total](const LaneSum& sum) { return sum.total() / total; };
  const auto ratio_stat = [&](const LaneSum& sum) { return has_ratio ? mean(sum) : kNaN; };
  const double ratio = sums.ratio.total();
  double ratio_max = 0;
  for (double r : sums.ratio_max.x) ratio_max = r > ratio_max ? r : ratio_max;
  const auto variance = [&](const LaneSum& sum, const LaneSum& squares) {
    return mean(squares) - mean(sum) * mean(sum);
  };
  const double returns_variance = variance(sums.returns, sums.returns_squared);
  stats[kPolicyLoss] = -mean(sums.objective);
  stats[kValueLoss] = has_values ? mean(sums.value_error) : 0.0;
  stats[kEntropy] = mean(sums.entropy);
  stats[kApproxKl] = ratio_stat(sums.k3);
  stats[kApproxKlK1] = ratio_stat(sums.k1);
  stats[kClipFraction] = ratio_stat(sums.clipped);
  stats[kRatioMean] = ratio_stat(sums.ratio);
  stats[kRatioMax] = has_ratio ? ratio_max : kNaN;
  stats[kEffectiveSampleSize] =
      has_ratio ? ratio * ratio / (total * sums.ratio_squared.total()) : kNaN;
  stats[kLimitedFraction] = ratio_stat(sums.limited);
  stats[kExplainedVariance] =
      has_values && returns_variance > 0
          ? 1.0 - variance(sums.residual, sums.residual_squared) / returns_variance
          : kNaN;
  stats[kKl] = has_kl ? mean(sums.kl) : kNaN;
  const double beyond = has_kl ? hinge(a, stats[kKl]) : 0.0;
  *a.loss = stats[kPolicyLoss] + term(a.value_coef, stats[kValueLoss]) -
            term(a.entropy_coef, stats[kEntropy]) + (has_kl ? term(a.kl_coef, stats[kKl]) : 0.0) +
            term(a.kl_hinge, beyond * beyond);
}

// The mean KL, on which the hinge's gradient depends.
template <typename T, typename Head>
double mean_kl(const LossCall<T>& a, const Samples<T>& samples, Head& head, Head& old) {
  LaneSum sum;
  Lane<double> weights;
  Lane<T> kl;
  for (std::ptrdiff_t first = 0; first < a.batch; first += kLanes) {
    const Group g = samples.group(first, weights);
    head.load(g);
    old.load(g);
    head.divergence(old, kl);
    sum.add(weights, kl);
  }
  return sum.total() / samples.total();
}

// The effective sample size from log-ratios as they are: beside limited ones the sums of a pass would
// count very different ratios as equal. Rare, so it looks at all samples again, twice.
template <typename T, typename LogRatios>
double unlimited_sample_size(const Samples<T>& samples, std::ptrdiff_t batch,
                             const LogRatios& log_ratios) {
  Lane<double> weights;
  double most = -std::numeric_limits<double>::infinity();
  double sum = 0;
  double squares = 0;
  const auto for_each = [&](const auto& body) {
    for (std::ptrdiff_t first = 0; first < batch; first += kLanes) {
      const Group g = samples.group(first, weights);
      const Lane<double> x = log_ratios(g);
      for (int l = 0; l < kLanes; ++l) {
        if (weights[l] != 0.0) body(weights[l], x[l]);
      }
    }
  };
  for_each([&](double, double x) { most = x > most ? x : most; });
  if (most == -std::numeric_limits<double>::infinity()) return 0.0;
  for_each([&](double weight, double x) {
    const double ratio = x == most ? 1.0 : std::exp(x - most);
    sum += weight * ratio;
    squares += weight * ratio * ratio;
  });
  return sum * sum / (samples.total() * squares);
}

// log r in double; 0 for two impossible actions.
template <typename T>
Lane<double> log_ratios_of(const LossCall<T>& a, const Group& g, const Lane<T>& logp) {
  const Lane<T> old_logp = load_lane(g, a.old_logp);
  Lane<double> x;
  for (int l = 0; l < kLanes; ++l) {
    const double difference = static_cast<double>(logp[l]) - static_cast<double>(old_logp[l]);
    x[l] = logp[l] == old_logp[l] ? 0.0 : difference;
  }
  return x;
}

template <typename T, typename Head>
Problem loss_of_distribution(const LossCall<T>& a, const Samples<T>& samples,
                             const Moments& moments) {
  Scratch scratch(a.scratch);
  Head head(a.policy.dist, scratch);
  Head old(a.old, scratch);
  if (a.policy.dist.shares_second) head.share_second(scratch);
  const bool has_kl = a.old.batch > 0;
  double kl_weight = has_kl ? a.kl_coef : 0.0;
  if (has_kl && a.kl_hinge != 0.0) {
    kl_weight += 2.0 * a.kl_hinge * hinge(a, mean_kl(a, samples, head, old));
  }
  const bool kl_has_gradient = kl_weight != 0.0;

  Sums sums;
  Lane<double> weights;
  Lane<T> logp;
  Lane<T> entropy;
  Lane<T> kl;
  Shares<T> shares = shares_of(equal_weights(), a, samples.total(), kl_weight);
  for (std::ptrdiff_t first = 0; first < a.batch; first += kLanes) {
    const Group g = samples.group(first, weights);
    const std::ptrdiff_t bad = head.load(g);
    if (bad >= 0) return {Problem::kParameters, bad};
    const std::ptrdiff_t bad_action = head.load_actions(g, a.policy.actions);
    if (bad_action >= 0) return {Problem::kAction, bad_action};
    head.evaluate(logp, entropy);
    if (has_kl) {
      const std::ptrdiff_t bad_old = old.load(g);
      if (bad_old >= 0) return {Problem::kOldParameters, bad_old};
      head.divergence(old, kl);
      sums.kl.add(weights, kl);
    }
    if (!samples.even()) shares = shares_of(weights, a, samples.total(), kl_weight);
    const Lane<T> w_logp = policy_terms(a, g, weights, logp, shares.policy, moments, sums);
    sums.entropy.add(weights, entropy);
    if (a.values.data != nullptr) {
      value_terms(a, g, weights, shares.value, samples.first(), sums);
    }
    head.gradient(g, w_logp, shares.entropy, shares.kl, kl_has_gradient, a.policy.first_gradient,
                  a.policy.second_gradient);
  }
  head.finish(a.policy.second_gradient);
  write_results(a, sums, samples.total(), has_kl);
  if (sums.limited.total() > 0) {
    a.stats[kEffectiveSampleSize] = unlimited_sample_size(samples, a.batch, [&](const Group& g) {
      head.load(g);
      head.load_actions(g, a.policy.actions);
      head.evaluate(logp, entropy);
      return log_ratios_of(a, g, logp);
    });
  }
  return {};
}

template <typename T>
Problem loss_of_logp(const LossCall<T>& a, const Samples<T>& samples, const Moments& moments) {
  const bool has_kl = a.kl.data != nullptr;
  Sums sums;
  Lane<double> weights;
  Shares<T> shares = shares_of(equal_weights(), a, samples.total(), a.kl_coef);
  for (std::ptrdiff_t first = 0; first < a.batch; first += kLanes) {
    const Group g = samples.group(first, weights);
    if (!samples.even()) shares = shares_of(weights, a, samples.total(), a.kl_coef);
    const Lane<T> w_logp =
        policy_terms(a, g, weights, load_lane(g, a.policy.logp), shares.policy, moments, sums);
    store_rows(g, 1, &w_logp, a.policy.first_gradient);
    if (!has_kl) continue;
    sums.kl.add(weights, load_lane(g, a.kl));
    store_rows(g, 1, &shares.kl, a.kl_gradient);
  }
  write_results(a, sums, samples.total(), has_kl);
  if (sums.limited.total() > 0) {
    a.stats[kEffectiveSampleSize] = unlimited_sample_size(samples, a.batch, [&](const Group& g) {
      return log_ratios_of(a, g, load_lane(g, a.policy.logp));
    });
  }
  return {};
}

template <typename T>
Problem loss(const LossCall<T>& a) {
  Samples<T> samples(a.batch, a.weights, a.mask);
  const Problem problem = samples.count();
  if (problem.kind != Problem::kNone) return problem;
  const Moments moments =
      a.normalize_advantages ? moments_of(samples, a.batch, a.advantages) : Moments{0.0, 1.0};
  if (a.policy.dist.batch == 0) return loss_of_logp(a, samples, moments);
  return with_head<T>(a.policy.dist.family, [&]<typename Head>() -> Problem {
    return loss_of_distribution<T, Head>(a, samples, moments);
  });
}

constexpr SurrogateKernels kKernels = {&loss<float>, &loss<double>};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::SurrogateKernels& ppo::PPO_ISA_TABLE(surrogate_kernels) { return kKernels; }
