// Normal noise for a group of samples: independent numbers, and the state-dependent noise of gSDE.
#pragma once

#include <cmath>
#include <cstdint>

#include "distributions/lanes.h"
#include "support/counter_rng.h"
#include "support/math.h"
#include "support/normal_quantile.h"

namespace ppo::inline PPO_ISA {

// Uniform numbers in (0, 1) become normal ones. The centre, 85 of 100, is computed for all lanes.
PPO_HD void to_normal(Lane<double>& number) {
  const Lane<double> uniform = number;
  for (int l = 0; l < kLanes; ++l) number[l] = normal_quantile_centre(uniform[l]);
  for (int l = 0; l < kLanes; ++l) {
    if (std::fabs(uniform[l] - 0.5) > 0.425) number[l] = normal_quantile_tail(uniform[l]);
  }
}

PPO_HD Lane<double> draw_normal(const Group& g, std::uint64_t seed, Stream stream,
                                std::uint32_t first_id, std::uint64_t step, std::uint32_t index) {
  Lane<double> number;
  for (int l = 0; l < kLanes; ++l) {
    const std::uint32_t id = first_id + static_cast<std::uint32_t>(g.row[l]);
    number[l] = counter_open_uniform(seed, stream, id, step, index);
  }
  to_normal(number);
  return number;
}

// A. Raffin, J. Kober, F. Stulp, "Smooth Exploration for Robotic Reinforcement Learning" (2021): the
// noise of a sample is latent @ E, where E [L, D] has independent normal elements of standard
// deviation exp(log_std) and stays the same for `sample_freq` steps. Dimension k of it.
template <typename T>
PPO_HD Lane<double> state_noise(const Group& g, const StateNoise<T>& noise, std::ptrdiff_t dims,
                                std::ptrdiff_t k, std::uint64_t seed, std::uint32_t first_id,
                                std::uint64_t step) {
  Lane<double> sum = {};
  for (std::ptrdiff_t j = 0; j < noise.size; ++j) {
    const double std = math::exp(static_cast<double>(noise.log_std(j, k)));
    const Lane<double> normal =
        draw_normal(g, seed, Stream::kNoise, first_id, step / noise.sample_freq,
                    static_cast<std::uint32_t>(j * dims + k));
    for (int l = 0; l < kLanes; ++l) {
      sum[l] += static_cast<double>(noise.latent(g.row[l], j)) * (std * normal[l]);
    }
  }
  return sum;
}

}  // namespace ppo::inline PPO_ISA
