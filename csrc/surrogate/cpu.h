// Fused losses on the CPU, as a table per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/isa.h"
#include "support/view.h"

namespace ppo {

// What a loss reports besides itself; the order is that of ppo_fast.surrogate.STATS.
enum PpoStat : int {
  kPolicyLoss,
  kValueLoss,
  kEntropy,
  kApproxKl,
  kApproxKlK1,
  kClipFraction,
  kRatioMean,
  kRatioMax,
  kEffectiveSampleSize,
  kLimitedFraction,
  kExplainedVariance,
  kNumPpoStats
};

// The PPO loss of a categorical policy over B samples,
//   -mean(clipped surrogate) + value_coef mean((V - R)^2) - entropy_coef mean(H),
// and its gradients with respect to the logits and the values, in one pass.
template <typename T>
struct CategoricalPpoLoss {
  std::ptrdiff_t batch = 0;
  std::ptrdiff_t num_actions = 0;
  View2<const T> logits;  // [B, actions]
  View1<const std::int64_t> actions;
  View1<const T> old_logp;
  View1<const T> advantages;
  View1<const T> values;
  View1<const T> returns;
  double clip_range = 0;
  double entropy_coef = 0;
  double value_coef = 0;
  bool normalize_advantages = false;
  T* scratch = nullptr;  // room for categorical_scratch(num_actions) elements

  T* logits_gradient = nullptr;  // out: [B, actions], contiguous
  T* values_gradient = nullptr;  // out: [B]
  double* stats = nullptr;       // out: [kNumPpoStats]
};

// Samples are handled in groups of this many, one per vector lane.
inline constexpr std::ptrdiff_t kLossLanes = 16;

inline std::ptrdiff_t categorical_scratch(std::ptrdiff_t num_actions) {
  return 2 * kLossLanes * num_actions;
}

struct SurrogateKernels {
  // Return the loss.
  double (*categorical_float)(const CategoricalPpoLoss<float>&);
  double (*categorical_double)(const CategoricalPpoLoss<double>&);
};
PPO_DECLARE_ISA_TABLE(SurrogateKernels, surrogate_kernels)

}  // namespace ppo
