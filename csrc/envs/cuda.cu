// The built-in environments on a GPU: a lane is an environment. Floor of CartPole: its state read and written, its action,
// and what it gives out, 124 bytes a step; 65,536 environments of them fit the second-level cache of a large card.
#include "envs/cuda.h"

#include "envs/acrobot.h"
#include "envs/cartpole.h"
#include "envs/mountain_car.h"
#include "envs/mountain_car_continuous.h"
#include "envs/pendulum.h"
#include "ppo_fast/env_cuda.h"

namespace ppo {
namespace {

struct Entry {
  std::string_view name;
  CudaEnvTable table;
};

template <typename E>
Entry entry(const char* name) {
  static const EnvTable table = make_table<E>(name, 0);
  return {name, {&table, &step_on_device<E>}};
}

}  // namespace

const CudaEnvTable* find_cuda_env(std::string_view name) {
  static const Entry entries[] = {
      entry<CartPole>("CartPole-v1"),
      entry<CartPole>("CartPole-v0"),
      entry<Acrobot>("Acrobot-v1"),
      entry<MountainCar>("MountainCar-v0"),
      entry<MountainCarContinuous>("MountainCarContinuous-v0"),
      entry<Pendulum>("Pendulum-v1"),
  };
  for (const Entry& known : entries) {
    if (known.name == name) return &known.table;
  }
  return nullptr;
}

}  // namespace ppo
