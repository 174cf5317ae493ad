#include "learner/learner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "support/thread_pool.h"

namespace ppo {
namespace {

const LearnerKernels& kernels() { return PPO_SELECT_ISA(learner_kernels); }

// Multiply-adds below which a pass is too short to wake a thread that sleeps; in an epoch, pass follows pass
// and threads are awake.
constexpr double kShareFrom = 8e5;
constexpr std::ptrdiff_t kShareAwakeFrom = 32;  // samples
constexpr std::ptrdiff_t kLine = 16;            // floats of a cache line

// A log_std that is an output stays within these (ppo_fast/learners/networks.py).
constexpr float kLeastLogStd = -20.0f;
constexpr float kMostLogStd = 2.0f;

}  // namespace

void FloatMemory::Free::operator()(float* p) const { ::operator delete(p, std::align_val_t{64}); }

float* FloatMemory::at_least(std::ptrdiff_t size) {
  if (size > size_) {
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(float);
    memory_.reset(static_cast<float*>(::operator new(bytes, std::align_val_t{64})));
    std::memset(memory_.get(), 0, bytes);
    size_ = size;
  }
  return memory_.get();
}

Learner::Learner(std::vector<Part> parts, Activation activation, PolicyForm policy)
    : parts_(std::move(parts)), activation_(activation), policy_(std::move(policy)) {
  for (const Part& part : parts_) {
    for (const Head& head : part.heads) {
      output_columns_[head.output] = head.layer.outputs;
      if (head.output == kPolicyOutput) latent_size_ = head.layer.inputs;
    }
  }
}

std::ptrdiff_t Learner::parameter_count() const {
  std::ptrdiff_t end = 0;
  for (const Part& part : parts_) {
    for (std::size_t k = 0; k < part.layers(); ++k) {
      const Layer& layer = part.layer(k);
      end =
          std::max({end, layer.weight + layer.outputs * layer.inputs, layer.bias + layer.outputs});
    }
  }
  const std::ptrdiff_t own = log_std_parameters();
  return own == 0 ? end : std::max(end, policy_.log_std_place + own);
}

// Those that are of no part.
std::ptrdiff_t Learner::log_std_parameters() const {
  if (policy_.log_std == LogStd::kParameter) return policy_.dims;
  return policy_.log_std == LogStd::kNoise ? latent_size_ * policy_.dims : 0;
}

// Enough chunks for the processors of a workstation, none too small to be worth its sum.
Learner::Chunks Learner::chunks_of(std::ptrdiff_t batch) {
  const std::ptrdiff_t blocks = (batch + kBlock - 1) / kBlock;
  return {blocks, std::clamp<std::ptrdiff_t>(blocks / 2, 1, 16)};
}

// The outputs in `wanted` (bits) of all observations. A task is one part and one chunk.
void Learner::forward(const float* obs, const std::int64_t* rows, std::ptrdiff_t batch, int threads,
                      unsigned wanted, bool keeps) {
  const Chunks chunks = chunks_of(batch);
  output_stride_ = chunks.blocks * kBlock;
  for (int k = 0; k < kOutputs; ++k) outputs_[k].at_least(output_columns_[k] * output_stride_);
  const bool is_noisy = policy_.log_std == LogStd::kNoise;
  if (is_noisy) latent_.at_least(latent_size_ * output_stride_);
  wanted_.clear();
  std::ptrdiff_t floats = 0;
  double weights = 0;
  for (const Part& part : parts_) {
    const bool is_wanted = std::any_of(part.heads.begin(), part.heads.end(), [&](const Head& h) {
      return (wanted >> h.output & 1u) != 0;
    });
    if (!is_wanted) continue;
    wanted_.push_back(&part);
    floats += part.block_floats(activation_) * (keeps ? chunks.blocks : chunks.count);
    for (std::size_t k = 0; k < part.layers(); ++k) {
      weights += static_cast<double>(part.layer(k).inputs * part.layer(k).outputs);
    }
  }
  float* const memory = kept_.at_least(floats);
  const auto run = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t task = begin; task < end; ++task) {
      const std::ptrdiff_t chunk = task % chunks.count;
      float* start = memory;
      for (std::ptrdiff_t p = 0; p < task / chunks.count; ++p) {
        start += wanted_[static_cast<std::size_t>(p)]->block_floats(activation_) *
                 (keeps ? chunks.blocks : chunks.count);
      }
      const Part& part = *wanted_[static_cast<std::size_t>(task / chunks.count)];
      ForwardPass call;
      call.part = &part;
      call.activation = activation_;
      call.parameters = memory_.parameters;
      call.obs = obs;
      call.rows = rows;
      call.batch = batch;
      call.first_block = chunks.first(chunk);
      call.last_block = chunks.first(chunk + 1);
      call.kept = keeps ? start : start + chunk * part.block_floats(activation_);
      call.kept_stride = keeps ? part.block_floats(activation_) : 0;
      for (int k = 0; k < kOutputs; ++k) call.outputs[k] = outputs_[k].data();
      call.latent = is_noisy ? latent_.data() : nullptr;
      call.output_stride = output_stride_;
      kernels().forward(call);
    }
  };
  const std::ptrdiff_t tasks = static_cast<std::ptrdiff_t>(wanted_.size()) * chunks.count;
  const bool shares =
      keeps ? batch >= kShareAwakeFrom : static_cast<double>(batch) * weights >= kShareFrom;
  parallel_for(0, tasks, shares ? threads : 1, run, kMostPieces);
  if ((wanted >> kPolicyOutput & 1u) != 0) find_log_std(batch);
}

NoisePass Learner::noise_pass() const {
  NoisePass pass;
  pass.size = latent_size_;
  pass.dims = policy_.dims;
  pass.columns = output_stride_;
  pass.parameters = memory_.parameters + policy_.log_std_place;
  pass.latent = latent_.data();
  pass.factors = factors_.data();
  pass.squares = squares_.data();
  pass.variance = variance_.data();
  pass.log_std = log_std_.data();
  return pass;
}

// The log_std of each sample, where states differ in it.
void Learner::find_log_std(std::ptrdiff_t batch) {
  const std::ptrdiff_t dims = policy_.dims;
  if (policy_.log_std == LogStd::kOutput) {
    float* log_std = log_std_.at_least(dims * output_stride_);
    const float* change = outputs_[kPolicyOutput].data() + dims * output_stride_;
    for (std::ptrdiff_t k = 0; k < dims; ++k) {
      for (std::ptrdiff_t i = 0; i < batch; ++i) {
        log_std[k * output_stride_ + i] = std::clamp(
            policy_.first_log_std + change[k * output_stride_ + i], kLeastLogStd, kMostLogStd);
      }
    }
  } else if (policy_.log_std == LogStd::kNoise) {
    log_std_.at_least(dims * output_stride_);
    squares_.at_least(latent_size_ * output_stride_);
    variance_.at_least(dims * output_stride_);
    factors_.at_least(latent_size_ * dims);
    kernels().noise_forward(noise_pass());
  }
}

// The gradients of outputs, or of parameters, from those of the log_std of each sample.
void Learner::hand_log_std_gradient_on(std::ptrdiff_t batch) {
  const std::ptrdiff_t dims = policy_.dims;
  if (policy_.log_std == LogStd::kOutput) {
    float* to = output_gradients_[kPolicyOutput].data();
    const float* first = first_gradient_.data();
    const float* second = log_std_gradient_.data();
    const float* change = outputs_[kPolicyOutput].data() + dims * output_stride_;
    for (std::ptrdiff_t i = 0; i < batch; ++i) {
      for (std::ptrdiff_t k = 0; k < dims; ++k) {
        const float log_std = policy_.first_log_std + change[k * output_stride_ + i];
        const bool is_free = log_std >= kLeastLogStd && log_std <= kMostLogStd;
        to[i * 2 * dims + k] = first[i * dims + k];
        to[i * 2 * dims + dims + k] = is_free ? second[i * dims + k] : 0.0f;
      }
    }
  } else if (policy_.log_std == LogStd::kNoise) {
    NoiseBackwardPass pass;
    pass.forward = noise_pass();
    pass.batch = batch;
    pass.log_std_gradient = log_std_gradient_.data();
    pass.scratch = noise_scratch_.at_least((batch + latent_size_) * padded(dims));
    pass.gradient = memory_.gradient + policy_.log_std_place;
    kernels().noise_backward(pass);
  }
}

StateNoise<float> Learner::noise() const {
  StateNoise<float> noise;
  if (policy_.log_std != LogStd::kNoise) return noise;
  noise.size = latent_size_;
  noise.latent = {latent_.data(), 1, output_stride_};
  noise.log_std = {memory_.parameters + policy_.log_std_place, policy_.dims, 1};
  noise.sample_freq = policy_.sample_freq;
  return noise;
}

double Learner::backward(std::ptrdiff_t batch, int threads) {
  const Chunks chunks = chunks_of(batch);
  std::ptrdiff_t partial_floats = 0;
  std::ptrdiff_t scratch_floats = 0;
  for (const Part& part : parts_) {
    partial_floats += part.partial_floats() * chunks.count;
    scratch_floats += part.scratch_floats() * chunks.count;
  }
  float* const partials = partial_.at_least(partial_floats);
  float* const scratch = scratch_.at_least(scratch_floats);
  const auto run = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t task = begin; task < end; ++task) {
      const std::ptrdiff_t chunk = task % chunks.count;
      const std::size_t index = static_cast<std::size_t>(task / chunks.count);
      BackwardPass call;
      call.part = &parts_[index];
      call.activation = activation_;
      call.parameters = memory_.parameters;
      call.batch = batch;
      call.first_block = chunks.first(chunk);
      call.last_block = chunks.first(chunk + 1);
      call.kept = kept_.data();
      call.kept_stride = call.part->block_floats(activation_);
      call.partial = partials;
      call.scratch = scratch;
      for (std::size_t p = 0; p < index; ++p) {
        call.kept += parts_[p].block_floats(activation_) * chunks.blocks;
        call.partial += parts_[p].partial_floats() * chunks.count;
        call.scratch += parts_[p].scratch_floats() * chunks.count;
      }
      call.partial += chunk * call.part->partial_floats();
      call.scratch += chunk * call.part->scratch_floats();
      for (int k = 0; k < kOutputs; ++k) call.gradients[k] = output_gradients_[k].data();
      kernels().backward(call);
    }
  };
  parallel_for(0, tasks_of(batch), threads, run, kMostPieces);
  // Mostly by the thread that made them, whose caches still hold them.
  double squares_of_parts[kOutputs] = {};  // a part has one at least
  const auto add_up = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    const float* from = partials;
    for (std::ptrdiff_t p = 0; p < end; ++p) {
      const Part& part = parts_[static_cast<std::size_t>(p)];
      if (p >= begin) {
        squares_of_parts[p] =
            kernels().reduce({&part, from, part.partial_floats(), chunks.count, memory_.gradient});
      }
      from += part.partial_floats() * chunks.count;
    }
  };
  parallel_for(0, static_cast<std::ptrdiff_t>(parts_.size()), threads, add_up);
  double squares =
      kernels().sum_of_squares(memory_.gradient + policy_.log_std_place, log_std_parameters());
  for (double x : squares_of_parts) squares += x;
  return squares;
}

Distribution<float> Learner::distribution(std::ptrdiff_t batch) const {
  Distribution<float> d;
  d.family = policy_.family;
  d.batch = batch;
  d.dims = policy_.dims;
  d.components = policy_.components;
  d.sizes = policy_.sizes.empty() ? nullptr : policy_.sizes.data();
  d.first = {outputs_[kPolicyOutput].data(), 1, output_stride_};
  if (policy_.log_std == LogStd::kParameter) {
    d.second = {memory_.parameters + policy_.log_std_place, 0, 1};
    d.shares_second = true;
  } else if (policy_.log_std != LogStd::kNone) {
    d.second = {log_std_.data(), 1, output_stride_};
  }
  return d;
}

Distribution<float> Learner::policy_of(const float* obs, std::ptrdiff_t batch, int threads) {
  forward(obs, nullptr, batch, threads, 1u << kPolicyOutput, false);
  return distribution(batch);
}

void Learner::values_of(const float* obs, std::ptrdiff_t batch, int threads, float* values) {
  forward(obs, nullptr, batch, threads, 1u << kValueOutput, false);
  std::memcpy(values, outputs_[kValueOutput].data(),
              static_cast<std::size_t>(batch) * sizeof(float));
}

// The loss of a minibatch, with the gradients of the outputs and of log_std.
Problem Learner::loss(const SampleArrays& samples, const std::int64_t* rows, std::ptrdiff_t batch,
                      const EpochSettings& settings, double* stats) {
  LossCall<float> call = settings.loss;
  call.batch = batch;
  call.stats = stats;
  double loss = 0;
  call.loss = &loss;
  call.policy.dist = distribution(batch);

  const std::ptrdiff_t dims = policy_.dims;
  float* next = columns_.at_least(batch * (4 + 2 * dims));
  const auto column = [&](const float* from) -> View1<const float> {
    if (from == nullptr) return {};
    float* to = next;
    next += batch;
    for (std::ptrdiff_t i = 0; i < batch; ++i) to[i] = from[rows[i]];
    return {to, 1};
  };
  call.old_logp = column(samples.logp);
  call.advantages = column(samples.advantages);
  call.values = {outputs_[kValueOutput].data(), 1};
  call.returns = column(samples.returns);
  call.old_values = column(samples.old_values);
  const auto matrix = [&](const float* from) -> View2<const float> {
    float* to = next;
    next += batch * dims;
    for (std::ptrdiff_t i = 0; i < batch; ++i)
      std::copy_n(from + rows[i] * dims, dims, to + i * dims);
    return {to, dims, 1};
  };
  if (samples.old_first != nullptr) {
    call.old = call.policy.dist;
    call.old.first = matrix(samples.old_first);
    if (policy_.log_std == LogStd::kParameter) {
      call.old.second = {samples.old_log_std, 0, 1};
    } else if (policy_.log_std != LogStd::kNone) {
      call.old.second = matrix(samples.old_log_std);
    }
  }

  const std::ptrdiff_t components = policy_.components;
  if (policy_.is_discrete()) {
    int_actions_.resize(static_cast<std::size_t>(batch * components));
    for (std::ptrdiff_t i = 0; i < batch; ++i) {
      for (std::ptrdiff_t k = 0; k < components; ++k) {
        int_actions_[static_cast<std::size_t>(i * components + k)] =
            samples.actions.discrete(rows[i], k);
      }
    }
    call.policy.actions.discrete = {int_actions_.data(), components, 1};
  } else {
    float* actions = float_actions_.at_least(batch * components);
    for (std::ptrdiff_t i = 0; i < batch; ++i) {
      for (std::ptrdiff_t k = 0; k < components; ++k) {
        actions[i * components + k] = samples.actions.continuous(rows[i], k);
      }
    }
    call.policy.actions.continuous = {actions, components, 1};
  }

  float* gradients =
      output_gradients_[kPolicyOutput].at_least(batch * output_columns_[kPolicyOutput]);
  call.policy.first_gradient =
      policy_.log_std == LogStd::kOutput ? first_gradient_.at_least(batch * dims) : gradients;
  call.policy.second_gradient = policy_.log_std == LogStd::kParameter
                                    ? memory_.gradient + policy_.log_std_place
                                    : log_std_gradient_.at_least(batch * dims);
  call.values_gradient = output_gradients_[kValueOutput].at_least(batch);
  const std::ptrdiff_t bytes = scratch_bytes(call.policy.dist) + scratch_bytes(call.old);
  call.scratch = loss_scratch_.at_least(bytes / static_cast<std::ptrdiff_t>(sizeof(float)) + 1);
  return PPO_SELECT_ISA(surrogate_kernels).loss_float(call);
}

void Learner::step(const EpochSettings& settings, double steps_taken, double norm, int threads) {
  AdamCall call;
  const double t = steps_taken + 1;
  const double beta1 = 0.9;
  const double beta2 = 0.999;
  call.size = memory_.size;
  call.parameters = memory_.parameters;
  call.gradient = memory_.gradient;
  call.exp_avg = memory_.exp_avg;
  call.exp_avg_sq = memory_.exp_avg_sq;
  call.scale = static_cast<float>(std::min(1.0, settings.max_grad_norm / (norm + 1e-6)));
  call.beta1_rest = static_cast<float>(1 - beta1);
  call.beta2 = static_cast<float>(beta2);
  call.beta2_rest = static_cast<float>(1 - beta2);
  call.step_size = static_cast<float>(settings.learning_rate / (1 - std::pow(beta1, t)));
  call.correction = static_cast<float>(std::sqrt(1 - std::pow(beta2, t)));
  const std::ptrdiff_t lines = (call.size + kLine - 1) / kLine;
  parallel_for(0, lines, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    AdamCall own = call;
    const std::ptrdiff_t first = begin * kLine;
    own.size = std::min(end * kLine, call.size) - first;
    own.parameters += first;
    own.gradient += first;
    own.exp_avg += first;
    own.exp_avg_sq += first;
    kernels().adam(own);
  });
}

EpochOutcome Learner::epoch(const SampleArrays& samples, const std::int64_t* order,
                            std::ptrdiff_t count, const EpochSettings& settings, double* stats) {
  EpochOutcome outcome;
  for (std::ptrdiff_t first = 0; first < count; first += settings.minibatch) {
    if (settings.at_step) settings.at_step();
    const std::int64_t* rows = order + first;
    const std::ptrdiff_t batch = std::min(settings.minibatch, count - first);
    double* row = stats + outcome.minibatches * kNumLossStats;
    forward(samples.obs, rows, batch, settings.threads, 3u, true);
    outcome.problem = loss(samples, rows, batch, settings, row);
    if (outcome.problem.kind != Problem::kNone) {
      outcome.failure = EpochOutcome::kRefused;
      return outcome;
    }
    ++outcome.minibatches;
    if (!std::isfinite(row[kPolicyLoss]) || !std::isfinite(row[kValueLoss])) {
      outcome.failure = EpochOutcome::kLoss;
      return outcome;
    }
    if (row[settings.stop_on] > settings.stop_kl) {
      outcome.stopped = true;
      return outcome;
    }
    hand_log_std_gradient_on(batch);
    // No thread takes part in a step of Adam alone: it would have to fetch all that it works on.
    const int most = static_cast<int>(std::min<std::ptrdiff_t>(settings.threads, tasks_of(batch)));
    const int threads = batch < kShareAwakeFrom ? 1 : most;
    const double squares = backward(batch, threads);
    const double norm = std::sqrt(squares);
    // Adam's second moment is a float.
    if (!std::isfinite(static_cast<float>(squares))) {
      outcome.failure = EpochOutcome::kGradient;
      return outcome;
    }
    step(settings, settings.steps_taken + static_cast<double>(outcome.steps), norm, threads);
    ++outcome.steps;
  }
  return outcome;
}

}  // namespace ppo
