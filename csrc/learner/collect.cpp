#include "learner/collect.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "distributions/cpu.h"

namespace ppo {
namespace {

using Clock = std::chrono::steady_clock;

// ObsNormalizer (ppo_fast/normalizers.py), bit for bit.
void normalize(const CollectSettings& settings, const float* obs, std::ptrdiff_t rows,
               std::ptrdiff_t width, float* out) {
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    for (std::ptrdiff_t k = 0; k < width; ++k) {
      const double x =
          (static_cast<double>(obs[i * width + k]) - settings.mean[k]) * settings.scale[k];
      out[i * width + k] = static_cast<float>(std::clamp(x, -settings.most, settings.most));
    }
  }
}

// Fills the environment's slots with the actions of a step: ActionLayout.to_env (ppo_fast/actions.py), but for the
// rounding of tanh.
void hand_over(const CollectSettings& settings, const RolloutArrays& rollout, std::ptrdiff_t first,
               std::ptrdiff_t components, VectorEnv& env) {
  if (rollout.discrete != nullptr) {
    const std::span<std::int32_t> slots = env.discrete_actions();
    const std::int64_t* from = rollout.discrete + first;
    for (std::size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<std::int32_t>(from[i]);
    return;
  }
  const std::span<float> slots = env.continuous_actions();
  const float* from = rollout.continuous + first * components;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const std::ptrdiff_t k = static_cast<std::ptrdiff_t>(i) % components;
    const float low = settings.low[k];
    const float high = settings.high[k];
    float x = from[i];
    if (settings.squashed) x = (high + low) / 2 + (high - low) / 2 * std::tanh(x);
    slots[i] = std::clamp(x, low, high);
  }
}

}  // namespace

CollectOutcome collect(Learner& learner, VectorEnv& env, const RolloutArrays& rollout,
                       const CollectSettings& settings) {
  const std::ptrdiff_t n = env.num_envs();
  const std::ptrdiff_t width = learner.inputs();
  const std::ptrdiff_t components = learner.policy().components;
  const DistributionKernelsOf<float>& kernels = PPO_SELECT_ISA(distribution_kernels).of_float;
  std::vector<float> seen(settings.mean != nullptr ? static_cast<std::size_t>(n * width) : 0);
  FloatMemory scratch;
  double env_seconds = 0;
  for (std::ptrdiff_t t = 0; t < rollout.steps; ++t) {
    if (settings.at_step) settings.at_step();
    const std::ptrdiff_t first = t * n;
    const float* obs = rollout.obs + first * width;
    if (settings.mean != nullptr) {
      normalize(settings, obs, n, width, seen.data());
      obs = seen.data();
    }
    SampleCall<float> call;
    call.dist = learner.policy_of(obs, n, settings.threads);
    call.noise = learner.noise();
    call.seed = settings.seed;
    call.step = settings.first_step + static_cast<std::uint64_t>(t);
    if (rollout.discrete != nullptr) {
      call.actions.discrete = {rollout.discrete + first * components, components, 1};
    } else {
      call.actions.continuous = {rollout.continuous + first * components, components, 1};
    }
    call.logp = {rollout.logp + first, 1};
    call.scratch = scratch.at_least(scratch_bytes(call.dist) / 4 + 1);
    const Problem problem = kernels.sample(call);
    if (problem.kind != Problem::kNone) return {problem, env_seconds};

    hand_over(settings, rollout, first, components, env);
    StepOutputs out;
    out.obs = rollout.obs + (first + n) * width;
    out.obs_stride = width;
    out.rewards = rollout.rewards + first;
    out.rewards_are_float32 = true;
    out.terminated = rollout.terminated + first;
    out.truncated = rollout.truncated + first;
    out.final_obs = rollout.final_obs + first * width;
    out.final_obs_stride = width;
    const Clock::time_point start = Clock::now();
    env.step(out);
    env_seconds += std::chrono::duration<double>(Clock::now() - start).count();
  }
  return {{}, env_seconds};
}

}  // namespace ppo
