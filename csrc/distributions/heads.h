// The head of each family.
#pragma once

#include "distributions/bernoulli.h"
#include "distributions/gaussian.h"
#include "distributions/product_head.h"
#include "distributions/softmax_head.h"
#include "distributions/squashed.h"

namespace ppo::inline PPO_ISA {

// Calls body.template operator()<Head>() with the head of a family, for so many columns (Columns in lanes.h).
template <typename T, int kMost = 0, typename Body>
auto with_head(Family family, const Body& body) {
  switch (family) {
    case Family::kBernoulli:
      return body.template operator()<ProductHead<T, Bernoulli<T>, kMost>>();
    case Family::kGaussian:
      return body.template operator()<ProductHead<T, Gaussian<T>, kMost>>();
    case Family::kSquashedGaussian:
      return body.template operator()<ProductHead<T, SquashedGaussian<T>, kMost>>();
    default:
      return body.template operator()<SoftmaxHead<T, kMost>>();
  }
}

}  // namespace ppo::inline PPO_ISA
