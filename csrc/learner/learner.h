// An actor-critic of perceptrons and its Adam: owns the work space, shares out passes to threads. Parameters,
// gradient and moments are memory of the caller's. Not safe for use from two threads at once.
//
// Results depend on the arguments alone, not on the number of threads: a batch is cut into chunks by its
// size, and their gradients are added up in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "distributions/distribution.h"
#include "learner/cpu.h"
#include "surrogate/cpu.h"

namespace ppo {

// Memory of floats, aligned to cache lines and zeroed; grows, and forgets when it does.
class FloatMemory {
 public:
  float* at_least(std::ptrdiff_t size);
  float* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(float* p) const;
  };
  std::unique_ptr<float, Free> memory_;
  std::ptrdiff_t size_ = 0;
};

// Where a Gaussian has its log_std from; Python's _core.LogStd.
enum class LogStd : int {
  kNone = 0,       // it is none
  kParameter = 1,  // [dims] of the parameters, for all states
  kOutput = 2,     // first_log_std + as many outputs more, within [-20, 2]
  kNoise = 3,      // state-dependent noise, of [latent, dims] of the parameters
};

// The distribution that the policy's outputs are parameters of.
struct PolicyForm {
  Family family = Family::kCategorical;
  std::ptrdiff_t dims = 0;
  std::ptrdiff_t components = 1;
  std::vector<std::int64_t> sizes;  // of a multi-categorical; else empty
  LogStd log_std = LogStd::kNone;
  std::ptrdiff_t log_std_place = 0;  // kParameter, kNoise: where it starts in the parameters
  float first_log_std = 0;           // kOutput
  std::uint64_t sample_freq = 1;     // kNoise
  bool is_discrete() const {
    return family == Family::kCategorical || family == Family::kBernoulli;
  }
};

// All of [size], in memory that outlives the learner's calls.
struct LearnerMemory {
  float* parameters = nullptr;
  float* gradient = nullptr;
  float* exp_avg = nullptr;
  float* exp_avg_sq = nullptr;
  std::ptrdiff_t size = 0;
};

// S samples to learn from, contiguous. What a loss does not need may be null.
struct SampleArrays {
  const float* obs = nullptr;  // [S, inputs]
  Actions<float> actions;      // [S, components]
  const float* logp = nullptr;
  const float* advantages = nullptr;
  const float* returns = nullptr;
  const float* old_values = nullptr;
  const float* old_first = nullptr;    // [S, dims]: the old policy's logits or means
  const float* old_log_std = nullptr;  // [dims] if it is a parameter, else [S, dims]
};

struct EpochSettings {
  LossCall<float> loss;  // coefficients and limits; everything else is filled in here
  std::ptrdiff_t minibatch = 0;
  double learning_rate = 0;
  double max_grad_norm = 0;  // infinite: none
  double stop_kl = 0;        // take no further step once stats[stop_on] exceeds it; infinite: never
  int stop_on = kApproxKl;
  double steps_taken = 0;  // of Adam, before this epoch
  int threads = 1;
  std::function<void()> at_step;  // called before every minibatch; may throw
};

struct EpochOutcome {
  enum Failure { kNone, kLoss, kGradient, kRefused };
  std::ptrdiff_t minibatches = 0;  // rows of stats that are filled
  std::ptrdiff_t steps = 0;        // of Adam that were taken
  bool stopped = false;
  Failure failure = kNone;  // of the last minibatch, whose step was not taken
  Problem problem;
};

class Learner {
 public:
  Learner(std::vector<Part> parts, Activation activation, PolicyForm policy);

  const PolicyForm& policy() const { return policy_; }
  std::ptrdiff_t inputs() const { return parts_.front().inputs; }
  // Where the last of the parameters ends.
  std::ptrdiff_t parameter_count() const;
  void link(const LearnerMemory& memory) { memory_ = memory; }
  const LearnerMemory& memory() const { return memory_; }

  // The policy of `batch` observations [batch, inputs]; valid until the next call.
  Distribution<float> policy_of(const float* obs, std::ptrdiff_t batch, int threads);
  // What draws its actions, where the noise depends on the state.
  StateNoise<float> noise() const;
  // V of them, into values [batch].
  void values_of(const float* obs, std::ptrdiff_t batch, int threads, float* values);

  // A pass over samples in the order of `order` [count]; stats [minibatches, kNumLossStats].
  EpochOutcome epoch(const SampleArrays& samples, const std::int64_t* order, std::ptrdiff_t count,
                     const EpochSettings& settings, double* stats);

 private:
  struct Chunks {
    std::ptrdiff_t blocks;
    std::ptrdiff_t count;
    std::ptrdiff_t first(std::ptrdiff_t chunk) const { return blocks * chunk / count; }
  };
  static Chunks chunks_of(std::ptrdiff_t batch);

  // What a pass over a batch can be shared out in: parts and chunks of it.
  std::ptrdiff_t tasks_of(std::ptrdiff_t batch) const {
    return static_cast<std::ptrdiff_t>(parts_.size()) * chunks_of(batch).count;
  }

  void forward(const float* obs, const std::int64_t* rows, std::ptrdiff_t batch, int threads,
               unsigned wanted, bool keeps);
  // Gives the sum of squares of the gradient, in an order that threads do not change.
  double backward(std::ptrdiff_t batch, int threads);
  std::ptrdiff_t log_std_parameters() const;
  void find_log_std(std::ptrdiff_t batch);
  void hand_log_std_gradient_on(std::ptrdiff_t batch);
  NoisePass noise_pass() const;
  void step(const EpochSettings& settings, double steps_taken, double norm, int threads);
  Distribution<float> distribution(std::ptrdiff_t batch) const;
  Problem loss(const SampleArrays& samples, const std::int64_t* rows, std::ptrdiff_t batch,
               const EpochSettings& settings, double* stats);

  std::vector<Part> parts_;
  std::vector<const Part*> wanted_;  // of a forward pass
  Activation activation_;
  PolicyForm policy_;
  LearnerMemory memory_;
  std::ptrdiff_t output_columns_[kOutputs] = {};

  std::ptrdiff_t output_stride_ = 0;
  FloatMemory outputs_[kOutputs];
  FloatMemory output_gradients_[kOutputs];
  std::ptrdiff_t latent_size_ = 0;
  FloatMemory log_std_;           // [dims, output_stride] of each sample: kOutput, kNoise
  FloatMemory first_gradient_;    // [batch, dims]
  FloatMemory log_std_gradient_;  // [batch, dims]
  FloatMemory latent_;            // kNoise: [latent, output_stride], as the next one
  FloatMemory squares_;
  FloatMemory variance_;  // [dims, output_stride]
  FloatMemory factors_;   // [latent, dims]
  FloatMemory noise_scratch_;
  FloatMemory kept_;
  FloatMemory partial_;
  FloatMemory scratch_;
  FloatMemory loss_scratch_;
  FloatMemory columns_;  // a minibatch's logp, advantages, returns, old values and old policy
  FloatMemory float_actions_;
  std::vector<std::int64_t> int_actions_;
};

}  // namespace ppo
