// The built-in environments, compiled once per instruction set.
#include <cstddef>

#include "envs/cartpole.h"
#include "envs/loop.h"

namespace ppo::inline PPO_ISA {
namespace {

constexpr EnvField kCartPoleFields[] = {
    {"sutton_barto_reward", offsetof(CartPole::Params, sutton_barto_reward)}};
constexpr EnvTable kCartPole = make_table<CartPole>(kCartPoleFields, 1);

constexpr const EnvTable* kTables[] = {&kCartPole, nullptr};
constexpr EnvTables kEnvTables = {kTables};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::EnvTables& ppo::PPO_ISA_TABLE(env_tables) { return kEnvTables; }
