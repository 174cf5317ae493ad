// The losses: groups of kLossLanes samples, through the head of the policy's family.
#include "surrogate/cpu.h"

#include <algorithm>

#include "distributions/heads.h"
#include "surrogate/samples.h"
#include "surrogate/sums.h"
#include "surrogate/terms.h"

namespace ppo::inline PPO_ISA {
namespace {

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
  const Scales scales = scales_of(a, samples.total(), kl_weight);
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
      sums[kSumKl].add(weights, kl);
    }
    const Shares<T> shares = shares_of<T>(weights, scales);
    const Inputs<T> inputs = load_inputs(a, g);
    const Lane<T> w_logp = policy_terms(a, inputs, weights, logp, shares.policy, moments, sums);
    sums[kSumEntropy].add(weights, entropy);
    if (a.values.data != nullptr) {
      value_terms(a, g, inputs, weights, shares.value, samples.first(), sums);
    }
    head.gradient(g, w_logp, shares.entropy, shares.kl, kl_has_gradient, a.policy.first_gradient,
                  a.policy.second_gradient);
  }
  head.finish(a.policy.second_gradient);
  *a.loss = write_results(a, totals_of(sums), samples.total(), has_kl);
  return {};
}

template <typename T>
Problem loss_of_logp(const LossCall<T>& a, const Samples<T>& samples, const Moments& moments) {
  const bool has_kl = a.kl.data != nullptr;
  Sums sums;
  Lane<double> weights;
  const Scales scales = scales_of(a, samples.total(), a.kl_coef);
  for (std::ptrdiff_t first = 0; first < a.batch; first += kLanes) {
    const Group g = samples.group(first, weights);
    const Shares<T> shares = shares_of<T>(weights, scales);
    const Lane<T> logp = load_lane(g, a.policy.logp);
    Lane<T> w_logp =
        policy_terms(a, load_inputs(a, g), weights, logp, shares.policy, moments, sums);
    store_lane(g, w_logp, a.policy.first_gradient);
    if (!has_kl) continue;
    sums[kSumKl].add(weights, load_lane(g, a.kl));
    store_lane(g, shares.kl, a.kl_gradient);
  }
  *a.loss = write_results(a, totals_of(sums), samples.total(), has_kl);
  return {};
}

template <typename T>
Problem loss(const LossCall<T>& a) {
  Samples<T> samples(a.batch, a.weights, a.mask);
  const Problem problem = samples.count();
  if (problem.kind != Problem::kNone) return problem;
  const Moments moments = a.normalize_advantages
                              ? moments_of(samples, a.advantages, samples.freedom(), kNormalizeEps)
                              : Moments{0.0, 1.0};
  if (a.policy.dist.batch == 0) return loss_of_logp(a, samples, moments);
  return with_head<T>(a.policy.dist.family, [&]<typename Head>() -> Problem {
    return loss_of_distribution<T, Head>(a, samples, moments);
  });
}

template <typename T>
void normalize(const NormalizeCall<T>& a) {
  Samples<T> samples(a.size, {}, a.mask);
  samples.count();  // there may be none
  const double freedom = static_cast<double>(samples.number()) - a.ddof;
  const Moments moments = moments_of(samples, a.x, freedom, a.eps);
  const double factor = 1.0 / moments.scale;
  samples.each_group([&](const Group& g, const Lane<double>& weights) {
    Lane<T> result = load_lane(g, a.x);
    for (int l = 0; l < kLanes; ++l) {
      const double x = (static_cast<double>(result[l]) - moments.mean) * factor;
      result[l] = weights[l] != 0.0 ? static_cast<T>(x) : T(0);
    }
    std::copy_n(result.x, g.lanes(), a.out + g.first);
  });
}

constexpr SurrogateKernels kKernels = {&loss<float>, &loss<double>, &normalize<float>,
                                       &normalize<double>};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::SurrogateKernels& ppo::PPO_ISA_TABLE(surrogate_kernels) { return kKernels; }
