// Distribution kernels on the CPU, as a table per instruction set. Each returns the first thing that
// it has to refuse.
#pragma once

#include <cstddef>
#include <cstdint>

#include "distributions/distribution.h"
#include "support/isa.h"
#include "support/view.h"

namespace ppo {

// Draws an action per sample with its log-probability, and the entropies if they are asked for.
// Component or dimension k of sample i is drawn at (seed, kActions, first_id + i, step, index k).
template <typename T>
struct SampleCall {
  Distribution<T> dist;
  StateNoise<T> noise;
  std::uint64_t seed = 0;
  std::uint32_t first_id = 0;
  std::uint64_t step = 0;
  bool deterministic = false;
  MutableActions<T> actions;  // out: [B, components]
  View1<T> logp;              // out: [B]
  View1<T> entropy;           // out: [B], or null
  void* scratch = nullptr;    // scratch_bytes(dist)
};

// Log-probabilities of actions and entropies.
template <typename T>
struct EvaluateCall {
  Distribution<T> dist;
  Actions<T> actions;
  T* logp = nullptr;     // out: [B]
  T* entropy = nullptr;  // out: [B]
  void* scratch = nullptr;
};

// KL(old || dist) per sample.
template <typename T>
struct KlCall {
  Distribution<T> dist;
  Distribution<T> old;
  T* kl = nullptr;          // out: [B]
  void* scratch = nullptr;  // of both
};

// Gradients of sum_i(w_logp logp + w_entropy H) or, with `old`, of sum_i(w_kl KL(old || dist)) with
// respect to the parameters of `dist`. The weights that are not needed are null.
template <typename T>
struct BackwardCall {
  Distribution<T> dist;
  Actions<T> actions;
  Distribution<T> old;  // batch 0: none
  View1<const T> w_logp;
  View1<const T> w_entropy;
  View1<const T> w_kl;
  T* first = nullptr;   // out: [B, dims]
  T* second = nullptr;  // out: [B, dims], or [dims] if all samples share it; null if there is none
  void* scratch = nullptr;
};

template <typename T>
struct DistributionKernelsOf {
  Problem (*sample)(const SampleCall<T>&);
  Problem (*evaluate)(const EvaluateCall<T>&);
  Problem (*kl)(const KlCall<T>&);
  Problem (*backward)(const BackwardCall<T>&);
};
struct DistributionKernels {
  DistributionKernelsOf<float> of_float;
  DistributionKernelsOf<double> of_double;
};
PPO_DECLARE_ISA_TABLE(DistributionKernels, distribution_kernels)

}  // namespace ppo
