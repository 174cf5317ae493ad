// A rollout of a native environment in one call: observe, act, step, T times.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "envs/vector_env.h"
#include "learner/learner.h"

namespace ppo {

// Contiguous arrays of T steps of N environments, time first.
struct RolloutArrays {
  std::ptrdiff_t steps = 0;
  float* obs = nullptr;              // [T + 1, N, inputs]; row 0 is what the rollout starts from
  std::int64_t* discrete = nullptr;  // [T, N, components], or
  float* continuous = nullptr;
  float* logp = nullptr;  // [T, N], as all that follow
  float* rewards = nullptr;
  bool* terminated = nullptr;
  bool* truncated = nullptr;
  float* final_obs = nullptr;  // [T, N, inputs], where an episode ended
};

struct CollectSettings {
  std::uint64_t seed = 0;
  std::uint64_t first_step = 0;  // of the run's draws
  // Observations as the networks see them, (x - mean) * scale within +-most; null: as they are.
  const double* mean = nullptr;
  const double* scale = nullptr;
  double most = 0;
  // What continuous actions become for the environment: cut at these bounds [components], or tanh(u) scaled
  // to them.
  const float* low = nullptr;
  const float* high = nullptr;
  bool squashed = false;
  int threads = 1;
  std::function<void()> at_step;  // called before every step; may throw
};

struct CollectOutcome {
  Problem problem;         // where the policy was no distribution; kNone if it always was one
  double env_seconds = 0;  // of stepping the environments
};

CollectOutcome collect(Learner& learner, VectorEnv& env, const RolloutArrays& rollout,
                       const CollectSettings& settings);

}  // namespace ppo
