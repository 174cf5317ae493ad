// An environment on a CUDA device: a lane is an environment. The tiles are those of the CPU (env_loop.h), so that a state
// may go from one to the other as it is.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ppo_fast/env.h"
#include "ppo_fast/launch.h"

namespace ppo {

template <typename E>
struct StepEnv {
  EnvBatch batch;
  const void* actions;
  ActionType type;
  StepOutputs out;

  PPO_HD void operator()(std::ptrdiff_t env) const {
    Loop<E>::step_env(batch, action_of(env), env, out);
  }

  PPO_HD typename E::Action::Value action_of(std::ptrdiff_t env) const {
    using Action = typename E::Action;
    if constexpr (Action::kCount > 0) {
      const std::int64_t action = type == ActionType::kInt64
                                      ? static_cast<const std::int64_t*>(actions)[env]
                                      : static_cast<const std::int32_t*>(actions)[env];
      // To refuse an action would mean to wait for the device; the nearest one is taken instead.
      const std::int64_t most = Action::kCount - 1;
      return static_cast<std::int32_t>(action < 0 ? 0 : action > most ? most : action);
    } else {
      return static_cast<const typename Action::Value*>(actions)[env];
    }
  }
};

template <typename E>
int step_on_device(const EnvBatch& batch, const void* actions, ActionType type,
                   const StepOutputs& out, void* stream) {
  return static_cast<int>(cuda::for_each(batch.num_envs, static_cast<cudaStream_t>(stream),
                                         StepEnv<E>{batch, actions, type, out}));
}

}  // namespace ppo
