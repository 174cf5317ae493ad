// The categorical distribution over logits x_k: log-probabilities and entropy.
//
// log p_k = x_k - log sum_j exp(x_j), formed as (x_k - max x) - log sum_j exp(x_j - max x). A logit
// of -infinity is an action of probability zero: it is never drawn, adds nothing to the entropy and
// gets no gradient. Sampling and the losses share these, so that a fresh policy's ratio is
// exactly 1.
#pragma once

#include "distributions/terms.h"
#include "support/math.h"

namespace ppo::inline PPO_ISA {

template <typename T>
PPO_HD T unnormalized_probability(T logit, T largest) {
  return math::exp(logit - largest);
}

// log_sum: log of the sum of the unnormalized probabilities.
template <typename T>
PPO_HD T log_probability(T logit, T largest, T log_sum) {
  return (logit - largest) - log_sum;
}

// d entropy / d x_k = -p_k (log p_k + H).
template <typename T>
PPO_HD T entropy_gradient(T p, T log_p, T entropy) {
  return p == T(0) ? T(0) : -p * (log_p + entropy);
}

// d log p_a / d x_k = [k = a] - p_k.
template <typename T>
PPO_HD T log_probability_gradient(T p, bool is_action) {
  return (is_action ? T(1) : T(0)) - p;
}

}  // namespace ppo::inline PPO_ISA
