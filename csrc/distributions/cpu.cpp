#include "distributions/cpu.h"

#include <limits>

#include "distributions/categorical.h"
#include "support/counter_rng.h"

namespace ppo::inline PPO_ISA {
namespace {

std::ptrdiff_t categorical_sample(const CategoricalSample& a) {
  for (std::ptrdiff_t i = 0; i < a.rows; ++i) {
    std::ptrdiff_t best = 0;
    for (std::ptrdiff_t k = 1; k < a.num_actions; ++k) {
      if (a.logits(i, k) > a.logits(i, best)) best = k;
    }
    const float largest = a.logits(i, best);
    float sum = 0;
    for (std::ptrdiff_t k = 0; k < a.num_actions; ++k) {
      sum += unnormalized_probability(a.logits(i, k), largest);
    }
    // Also catches NaN, and rows of -infinity, whose differences are NaN.
    if (!(sum >= 1.0f && sum <= std::numeric_limits<float>::max())) return i;

    std::ptrdiff_t action = best;
    if (!a.greedy) {
      const double u = counter_uniform(a.seed, Stream::kActions,
                                       a.first_id + static_cast<std::uint32_t>(i), a.step);
      const double threshold = u * static_cast<double>(sum);
      double cumulative = 0;
      for (std::ptrdiff_t k = 0; k < a.num_actions; ++k) {
        const float p = unnormalized_probability(a.logits(i, k), largest);
        cumulative += static_cast<double>(p);
        // Rounding may leave the threshold just above the last sum: `action` keeps a possible one.
        if (p > 0.0f) action = k;
        if (cumulative > threshold) break;
      }
    }
    a.actions[i] = action;
    a.logp[i] = log_probability(a.logits(i, action), largest, math::log(sum));
  }
  return -1;
}

constexpr DistributionKernels kKernels = {&categorical_sample};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::DistributionKernels& ppo::PPO_ISA_TABLE(distribution_kernels) { return kKernels; }
