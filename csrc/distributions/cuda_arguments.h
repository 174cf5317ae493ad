// What the bindings of the GPU ask of a distribution beyond those of the CPU.
#pragma once

#include <string>

#include "distributions/arguments.h"
#include "distributions/cuda.h"

namespace ppo {

inline void require_few_components(const DistributionArgument& dist) {
  if (static_cast<std::ptrdiff_t>(dist.sizes.size()) <= cuda::kMostComponents) return;
  Argument{dist.function, "nvec"}.value_error(
      "must have at most " + std::to_string(cuda::kMostComponents) + " choices on a GPU, got " +
      std::to_string(dist.sizes.size()));
}

}  // namespace ppo
