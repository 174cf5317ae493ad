// Advantage kernels on the CPU, as a table per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/isa.h"
#include "support/view.h"

namespace ppo {

// Arguments of gae. All [T, N]; a null view stands for an absent argument: no terminated or
// truncated transitions, last_values of zero. `truncated` needs `final_values`.
template <typename T>
struct GaeArguments {
  std::ptrdiff_t num_steps = 0;
  View2<const T> rewards;
  View2<const T> values;
  View1<const T> last_values;  // [N]
  View2<const std::uint8_t> terminated;
  View2<const std::uint8_t> truncated;
  View2<const T> final_values;  // read only where truncated
  double gamma = 0;
  double gae_lambda = 0;
  View2<T> advantages;  // out
  View2<T> returns;     // out
};

// Columns [begin, end).
struct AdvantageKernels {
  void (*gae_float)(const GaeArguments<float>&, std::ptrdiff_t begin, std::ptrdiff_t end);
  void (*gae_double)(const GaeArguments<double>&, std::ptrdiff_t begin, std::ptrdiff_t end);
};
PPO_DECLARE_ISA_TABLE(AdvantageKernels, advantage_kernels)

}  // namespace ppo
