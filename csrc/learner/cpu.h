// The learner's kernels on the CPU, as a table per instruction set: passes over blocks of samples, and what
// makes a step of Adam of their gradients. None of them knows threads; none allocates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "learner/network.h"
#include "support/isa.h"

namespace ppo {

// From observations to outputs, for blocks first_block .. last_block - 1 of a batch.
struct ForwardPass {
  const Part* part = nullptr;
  Activation activation = Activation::kTanh;
  const float* parameters = nullptr;
  const float* obs = nullptr;          // [*, inputs]
  const std::int64_t* rows = nullptr;  // sample i has row rows[i] of obs; null: row i
  std::ptrdiff_t batch = 0;
  std::ptrdiff_t first_block = 0;
  std::ptrdiff_t last_block = 0;
  float* kept = nullptr;             // of the whole batch, block_floats for each block; or
  std::ptrdiff_t kept_stride = 0;    // 0: one block's, used again and again
  float* outputs[kOutputs] = {};     // out: [columns, output_stride], a row per output
  float* latent = nullptr;           // out: what the policy's head is given, likewise; or null
  std::ptrdiff_t output_stride = 0;  // whole blocks
};

// From gradients of the outputs to sums of gradients of the parameters, over the same blocks. The
// observations of `forward` and what it kept are still there.
struct BackwardPass {
  const Part* part = nullptr;
  Activation activation = Activation::kTanh;
  const float* parameters = nullptr;
  std::ptrdiff_t batch = 0;
  std::ptrdiff_t first_block = 0;
  std::ptrdiff_t last_block = 0;
  const float* kept = nullptr;
  std::ptrdiff_t kept_stride = 0;
  const float* gradients[kOutputs] = {};  // [batch, columns], rows of samples
  float* partial = nullptr;               // out: partial_floats
  float* scratch = nullptr;               // scratch_floats
};

// Adds up the partial gradients of `count` calls, in their order. Gives the sum of squares of what comes out.
struct ReduceCall {
  const Part* part = nullptr;
  const float* partial = nullptr;
  std::ptrdiff_t stride = 0;  // from one to the next
  std::ptrdiff_t count = 0;
  float* gradient = nullptr;  // out: of all parameters, those of the part are set
};

// The standard deviations of state-dependent noise (distributions/noise.h):
// log_std = 0.5 log(sum_l latent_l^2 exp(2 parameter_l) + 1e-6), for `columns` samples side by side.
struct NoisePass {
  std::ptrdiff_t size = 0;  // of the latent features
  std::ptrdiff_t dims = 0;
  std::ptrdiff_t columns = 0;         // a multiple of 16
  const float* parameters = nullptr;  // [size, dims]
  const float* latent = nullptr;      // [size, columns]
  float* factors = nullptr;           // out: [size, dims], exp(2 parameter)
  float* squares = nullptr;           // out: [size, columns], latent^2
  float* variance = nullptr;          // out: [dims, columns]
  float* log_std = nullptr;           // out: [dims, columns]
};

// From gradients of log_std to those of the parameters; the latent features get none.
struct NoiseBackwardPass {
  NoisePass forward;
  std::ptrdiff_t batch = 0;
  const float* log_std_gradient = nullptr;  // [batch, dims]
  float* scratch = nullptr;                 // (batch + size) rows of padded(dims)
  float* gradient = nullptr;                // out: [size, dims]
};

// D. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization" (2015), algorithm 1, in torch.optim.Adam's
// form: v' = sqrt(v) / sqrt(1 - beta2^t) + eps.
struct AdamCall {
  std::ptrdiff_t size = 0;
  float* parameters = nullptr;
  const float* gradient = nullptr;
  float* exp_avg = nullptr;
  float* exp_avg_sq = nullptr;
  float scale = 1;       // of the gradient
  float beta1_rest = 0;  // 1 - beta1, and
  float beta2 = 0;
  float beta2_rest = 0;  // 1 - beta2, rounded once
  float eps = 1e-5f;
  float step_size = 0;   // lr / (1 - beta1^t)
  float correction = 1;  // sqrt(1 - beta2^t)
};

struct LearnerKernels {
  void (*forward)(const ForwardPass&);
  void (*backward)(const BackwardPass&);
  double (*reduce)(const ReduceCall&);
  void (*noise_forward)(const NoisePass&);
  void (*noise_backward)(const NoiseBackwardPass&);
  double (*sum_of_squares)(const float* x, std::ptrdiff_t size);
  void (*adam)(const AdamCall&);
};
PPO_DECLARE_ISA_TABLE(LearnerKernels, learner_kernels)

}  // namespace ppo
