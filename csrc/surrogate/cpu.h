// Fused losses on the CPU, as a table per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "distributions/distribution.h"
#include "support/isa.h"
#include "support/view.h"

namespace ppo {

// What a loss reports besides itself; the order is that of _core.LOSS_STATS.
enum LossStat : int {
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
  kKl,
  kNumLossStats
};

// What is averaged over samples: logp A, or r A within bounds that may be infinite.
enum class Objective : int { kPolicyGradient = 0, kImportance = 1 };

// The policy: a distribution and the actions taken, or their log-probabilities alone.
template <typename T>
struct Policy {
  Distribution<T> dist;  // batch 0: `logp` is given
  Actions<T> actions;
  View1<const T> logp;

  T* first_gradient = nullptr;   // out: [B, dims]; of a given logp [B]
  T* second_gradient = nullptr;  // out: [B, dims], or [dims] if all samples share it
};

// Limits are infinite where there is none.
struct LossCoefficients {
  double ratio_low = 0;  // bounds of r
  double ratio_high = 0;
  double dual_clip = 0;
  double clip_range_values = 0;
  double kl_coef = 0;
  double kl_hinge = 0;
  double kl_hinge_from = 0;
  double entropy_coef = 0;
  double value_coef = 0;
};

// Means over samples, sum(w x) / sum(w):
//   -J + value_coef mean(value loss) - entropy_coef mean(H) + kl_coef mean(KL)
//      + kl_hinge max(0, mean(KL) - kl_hinge_from)^2
// Views without data stand for arguments that were not given. A sample of weight 0 is not looked at.
template <typename T>
struct LossCall : LossCoefficients {
  std::ptrdiff_t batch = 0;
  Policy<T> policy;
  Distribution<T> old;  // batch 0: none
  View1<const T> kl;    // KL per sample, instead of `old`
  View1<const T> old_logp;
  View1<const T> advantages;
  View1<const T> values;
  View1<const T> returns;
  View1<const T> old_values;
  View1<const T> weights;
  View1<const bool> mask;

  Objective objective = Objective::kImportance;
  bool normalize_advantages = false;
  void* scratch = nullptr;  // scratch_bytes of both distributions

  T* values_gradient = nullptr;  // out: [B]
  T* kl_gradient = nullptr;      // out: [B]
  double* stats = nullptr;       // out: [kNumLossStats]
  double* loss = nullptr;        // out
};

// (x - mean) / (std + eps) of the items that count, and 0 for the others.
template <typename T>
struct NormalizeCall {
  std::ptrdiff_t size = 0;
  View1<const T> x;
  View1<const bool> mask;
  double ddof = 0;
  double eps = 0;
  T* out = nullptr;
};

struct SurrogateKernels {
  Problem (*loss_float)(const LossCall<float>&);
  Problem (*loss_double)(const LossCall<double>&);
  void (*normalize_float)(const NormalizeCall<float>&);
  void (*normalize_double)(const NormalizeCall<double>&);
};
PPO_DECLARE_ISA_TABLE(SurrogateKernels, surrogate_kernels)

}  // namespace ppo
