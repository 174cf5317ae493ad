// Distribution kernels on the CPU, as a table per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/isa.h"
#include "support/view.h"

namespace ppo {

// Draws one action per row by inverting the cumulative distribution at counter_uniform(seed,
// kActions, first_id + row, step); `greedy` takes the first most probable action instead.
struct CategoricalSample {
  std::ptrdiff_t rows = 0;
  std::ptrdiff_t num_actions = 0;
  View2<const float> logits;  // [rows, num_actions]
  std::uint64_t seed = 0;
  std::uint32_t first_id = 0;
  std::uint64_t step = 0;
  bool greedy = false;
  View1<std::int64_t> actions;  // out
  View1<float> logp;            // out: log-probability of the action
};

struct DistributionKernels {
  // Returns the first row that holds no distribution (a NaN, or no finite logit), or -1.
  std::ptrdiff_t (*categorical_sample)(const CategoricalSample&);
};
PPO_DECLARE_ISA_TABLE(DistributionKernels, distribution_kernels)

}  // namespace ppo
