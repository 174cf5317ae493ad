// Weights, mean and variance of samples in any order, where they are not looked at twice.
//
// T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances"
// (1979); with weights: D. H. D. West, "Updating Mean and Variance Estimates" (1979).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "surrogate/samples.h"

namespace ppo::inline PPO_ISA {

struct Spread {
  std::int64_t number = 0;  // of samples that count
  std::int64_t first = 0;   // of them
  double total = 0;         // sum w
  double squares = 0;       // sum w^2
  double mean = 0;          // of x
  double deviation = 0;     // sum w (x - mean)^2

  // Of one sample. What does not count is not looked at; a weight that is none makes NaN of everything.
  PPO_HD static Spread of(std::int64_t i, double weight, double x) {
    const bool is_weight = weight >= 0.0 && weight - weight == 0.0;
    const double w = is_weight ? weight : std::numeric_limits<double>::quiet_NaN();
    if (w == 0.0) return {};
    return {1, i, w, w * w, x, 0.0};
  }

  // Of all samples. Written for any two of them, in whatever order they were found.
  PPO_HD static Spread join(const Spread& a, const Spread& b) {
    if (a.number == 0) return b;
    if (b.number == 0) return a;
    const double total = a.total + b.total;
    const double apart = b.mean - a.mean;
    return {a.number + b.number,
            a.first < b.first ? a.first : b.first,
            total,
            a.squares + b.squares,
            a.mean + apart * (b.total / total),
            a.deviation + b.deviation + apart * apart * (a.total * (b.total / total))};
  }

  // As moments_of: a single sample is left as it is.
  PPO_HD Moments moments() const {
    const double freedom = total - squares / total;
    if (number < 2 || !(freedom > 0)) return {0.0, 1.0};
    return {mean, std::sqrt(deviation / freedom) + kNormalizeEps};
  }
};

}  // namespace ppo::inline PPO_ISA
