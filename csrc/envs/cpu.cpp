// The built-in environments, compiled once per instruction set.
#include "envs/acrobot.h"
#include "envs/builtin.h"
#include "envs/cartpole.h"
#include "envs/mountain_car.h"
#include "envs/mountain_car_continuous.h"
#include "envs/pendulum.h"

namespace ppo::inline PPO_ISA {
namespace {

constexpr EnvTable with_threshold(EnvTable table, double reward_threshold) {
  table.reward_threshold = reward_threshold;
  return table;
}

constexpr EnvTable kEnvs[] = {
    with_threshold(make_table<CartPole>("CartPole-v1", 500), 475),
    with_threshold(make_table<CartPole>("CartPole-v0", 200), 195),
    with_threshold(make_table<Acrobot>("Acrobot-v1", 500), -100),
    with_threshold(make_table<MountainCar>("MountainCar-v0", 200), -110),
    with_threshold(make_table<MountainCarContinuous>("MountainCarContinuous-v0", 999), 90),
    make_table<Pendulum>("Pendulum-v1", 200),
};

constexpr const EnvTable* kTables[] = {&kEnvs[0], &kEnvs[1], &kEnvs[2], &kEnvs[3],
                                       &kEnvs[4], &kEnvs[5], nullptr};
constexpr EnvTables kEnvTables = {kTables};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::EnvTables& ppo::PPO_ISA_TABLE(env_tables) { return kEnvTables; }
