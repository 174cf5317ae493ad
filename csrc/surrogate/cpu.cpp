// The categorical PPO loss: groups of kLossLanes samples, transposed so that each sample is a
// vector lane.
//
// Sums are kept per lane in double and added up in lane order at the end, so the result depends
// neither on the instruction set nor on how the compiler vectorises.
#include "surrogate/cpu.h"

#include <cmath>
#include <limits>

#include "distributions/categorical.h"
#include "surrogate/formula.h"

namespace ppo::inline PPO_ISA {
namespace {

constexpr int kLanes = static_cast<int>(kLossLanes);

// A sum over samples, one part per lane.
struct LaneSum {
  alignas(64) double part[kLanes] = {};

  template <typename T>
  PPO_HD void add(int lane, T term) {
    part[lane] += static_cast<double>(term);
  }
  double total() const {
    double sum = 0;
    for (double p : part) sum += p;
    return sum;
  }
};

struct Moments {
  double mean;
  double scale;  // std(ddof=1) + 1e-8
};

// Two passes in double. A single sample has no spread: it is left as it is.
template <typename T>
Moments advantage_moments(const View1<const T>& x, std::ptrdiff_t size) {
  if (size < 2) return {0.0, 1.0};
  double sum = 0;
  for (std::ptrdiff_t i = 0; i < size; ++i) sum += static_cast<double>(x[i]);
  const double mean = sum / static_cast<double>(size);
  double squares = 0;
  for (std::ptrdiff_t i = 0; i < size; ++i) {
    const double difference = static_cast<double>(x[i]) - mean;
    squares += difference * difference;
  }
  return {mean, std::sqrt(squares / static_cast<double>(size - 1)) + 1e-8};
}

struct Sums {
  LaneSum objective, value_error, entropy, k1, k3, clipped, ratio, ratio_squared, limited;
  LaneSum returns, returns_squared, residual, residual_squared;
  alignas(64) double ratio_max[kLanes] = {};
};

template <typename T>
struct Group {
  int lanes;  // in use; the rest repeat the last sample and are not counted
  alignas(64) T largest[kLanes];
  alignas(64) T log_sum[kLanes];
  alignas(64) T inverse_sum[kLanes];
  alignas(64) T entropy[kLanes];
  alignas(64) T logp_gradient[kLanes];  // d loss / d log p_a
  std::int64_t action[kLanes];
};

// Probabilities and entropies of the group. x: [actions, lanes] logits, p: [actions, lanes] out.
template <typename T>
void softmax(Group<T>& g, std::ptrdiff_t num_actions, const T* __restrict x, T* __restrict p) {
  for (int l = 0; l < kLanes; ++l) g.largest[l] = x[l];
  for (std::ptrdiff_t k = 1; k < num_actions; ++k) {
    const T* row = x + k * kLanes;
    for (int l = 0; l < kLanes; ++l) g.largest[l] = row[l] > g.largest[l] ? row[l] : g.largest[l];
  }
  alignas(64) T sum[kLanes] = {};
  for (std::ptrdiff_t k = 0; k < num_actions; ++k) {
    for (int l = 0; l < kLanes; ++l) {
      const T e = unnormalized_probability(x[k * kLanes + l], g.largest[l]);
      p[k * kLanes + l] = e;
      sum[l] += e;
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    g.log_sum[l] = math::log(sum[l]);
    g.inverse_sum[l] = T(1) / sum[l];
    g.entropy[l] = T(0);
  }
  for (std::ptrdiff_t k = 0; k < num_actions; ++k) {
    for (int l = 0; l < kLanes; ++l) {
      const T probability = p[k * kLanes + l] * g.inverse_sum[l];
      const T log_p = log_probability(x[k * kLanes + l], g.largest[l], g.log_sum[l]);
      p[k * kLanes + l] = probability;
      g.entropy[l] -= p_log_p(probability, log_p);
    }
  }
}

// d loss / d logits of the group, written in lane order. x and p as above.
template <typename T>
void logits_gradient(const Group<T>& g, std::ptrdiff_t num_actions, T entropy_weight,
                     const T* __restrict x, const T* __restrict p, T* __restrict out) {
  alignas(64) T row[kLanes];
  for (std::ptrdiff_t k = 0; k < num_actions; ++k) {
    for (int l = 0; l < kLanes; ++l) {
      const T probability = p[k * kLanes + l];
      const T log_p = log_probability(x[k * kLanes + l], g.largest[l], g.log_sum[l]);
      row[l] = g.logp_gradient[l] * log_probability_gradient(probability, g.action[l] == k) -
               entropy_weight * entropy_gradient(probability, log_p, g.entropy[l]);
    }
    for (int l = 0; l < g.lanes; ++l) out[l * num_actions + k] = row[l];
  }
}

void write_stats(const Sums& sums, double batch, double* stats) {
  const double ratio = sums.ratio.total();
  const double returns_mean = sums.returns.total() / batch;
  const double residual_mean = sums.residual.total() / batch;
  const double returns_variance =
      sums.returns_squared.total() / batch - returns_mean * returns_mean;
  const double residual_variance =
      sums.residual_squared.total() / batch - residual_mean * residual_mean;
  double ratio_max = 0;
  for (double r : sums.ratio_max) ratio_max = r > ratio_max ? r : ratio_max;
  stats[kPolicyLoss] = -sums.objective.total() / batch;
  stats[kValueLoss] = sums.value_error.total() / batch;
  stats[kEntropy] = sums.entropy.total() / batch;
  stats[kApproxKl] = sums.k3.total() / batch;
  stats[kApproxKlK1] = sums.k1.total() / batch;
  stats[kClipFraction] = sums.clipped.total() / batch;
  stats[kRatioMean] = ratio / batch;
  stats[kRatioMax] = ratio_max;
  stats[kEffectiveSampleSize] = ratio * ratio / (batch * sums.ratio_squared.total());
  stats[kLimitedFraction] = sums.limited.total() / batch;
  stats[kExplainedVariance] = returns_variance > 0 ? 1.0 - residual_variance / returns_variance
                                                   : std::numeric_limits<double>::quiet_NaN();
}

template <typename T>
double categorical(const CategoricalPpoLoss<T>& a) {
  const double batch = static_cast<double>(a.batch);
  const Moments moments =
      a.normalize_advantages ? advantage_moments(a.advantages, a.batch) : Moments{0.0, 1.0};
  const T mean = static_cast<T>(moments.mean);
  const T scale = static_cast<T>(moments.scale);
  const T low = static_cast<T>(1.0 - a.clip_range);
  const T high = static_cast<T>(1.0 + a.clip_range);
  const T policy_weight = static_cast<T>(-1.0 / batch);
  const T value_weight = static_cast<T>(2.0 * a.value_coef / batch);
  const T entropy_weight = static_cast<T>(a.entropy_coef / batch);

  // Variances of returns and errors are formed around the first sample, where they hardly cancel.
  const double first_target = static_cast<double>(a.returns[0]);
  const double first_error = static_cast<double>(a.values[0] - a.returns[0]);

  T* x = a.scratch;
  T* p = a.scratch + kLanes * a.num_actions;
  Sums sums;
  Group<T> g;
  for (std::ptrdiff_t first = 0; first < a.batch; first += kLanes) {
    g.lanes = a.batch - first < kLanes ? static_cast<int>(a.batch - first) : kLanes;
    alignas(64) T logp[kLanes];
    alignas(64) T old_logp[kLanes];
    alignas(64) T advantage[kLanes];
    alignas(64) T value[kLanes];
    alignas(64) T target[kLanes];
    for (int l = 0; l < kLanes; ++l) {
      const std::ptrdiff_t i = first + (l < g.lanes ? l : g.lanes - 1);
      for (std::ptrdiff_t k = 0; k < a.num_actions; ++k) x[k * kLanes + l] = a.logits(i, k);
      g.action[l] = a.actions[i];
      old_logp[l] = a.old_logp[i];
      advantage[l] = a.advantages[i];
      value[l] = a.values[i];
      target[l] = a.returns[i];
    }
    softmax(g, a.num_actions, x, p);
    for (int l = 0; l < kLanes; ++l) {
      logp[l] = log_probability(x[g.action[l] * kLanes + l], g.largest[l], g.log_sum[l]);
    }
    // The whole group is computed, only its lanes in use are counted.
    const int counted = g.lanes;
    for (int l = 0; l < kLanes; ++l) {
      const Ratio<T> ratio = importance_ratio(logp[l], old_logp[l]);
      const T scaled = normalized(advantage[l], mean, scale);
      const Objective<T> objective = clipped_objective(ratio, scaled, low, high);
      const T error = value[l] - target[l];
      g.logp_gradient[l] = policy_weight * objective.gradient;
      const bool counts = l < counted;
      const auto select = [counts](T term) { return counts ? term : T(0); };
      sums.objective.add(l, select(objective.value));
      sums.value_error.add(l, select(error * error));
      sums.entropy.add(l, select(g.entropy[l]));
      sums.k1.add(l, select(-ratio.log));
      sums.k3.add(l, select(kl_k3(ratio)));
      sums.clipped.add(l, select((ratio.value < low) | (ratio.value > high) ? T(1) : T(0)));
      sums.ratio.add(l, select(ratio.value));
      sums.ratio_squared.add(l, select(ratio.value) * static_cast<double>(ratio.value));
      sums.limited.add(l, select(ratio.limited ? T(1) : T(0)));
      const double shifted_target = static_cast<double>(target[l]) - first_target;
      const double shifted_error = static_cast<double>(error) - first_error;
      sums.returns.add(l, counts ? shifted_target : 0.0);
      sums.returns_squared.add(l, counts ? shifted_target * shifted_target : 0.0);
      sums.residual.add(l, counts ? shifted_error : 0.0);
      sums.residual_squared.add(l, counts ? shifted_error * shifted_error : 0.0);
      const double r = static_cast<double>(ratio.value);
      sums.ratio_max[l] = r > sums.ratio_max[l] ? r : sums.ratio_max[l];
    }
    logits_gradient(g, a.num_actions, entropy_weight, x, p,
                    a.logits_gradient + first * a.num_actions);
    for (int l = 0; l < g.lanes; ++l) {
      a.values_gradient[first + l] = value_weight * (value[l] - target[l]);
    }
  }
  write_stats(sums, batch, a.stats);
  return a.stats[kPolicyLoss] + a.value_coef * a.stats[kValueLoss] -
         a.entropy_coef * a.stats[kEntropy];
}

constexpr SurrogateKernels kKernels = {&categorical<float>, &categorical<double>};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::SurrogateKernels& ppo::PPO_ISA_TABLE(surrogate_kernels) { return kKernels; }
