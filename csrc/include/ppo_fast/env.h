// What an environment is: a plain struct with four types and three static functions. No base class,
// no virtual call, no Python. The engine (envs/loop.h) owns everything else: the time limit,
// autoreset, seeding, buffers and threads.
//
//   struct MyEnv {
//     static constexpr const char* kName = "MyEnv-v0";
//     using Action = ppo::Discrete<2>;              // an index in [0, 2)
//     using Observation = ppo::Box<float, 4>;       // four floats
//     struct Params { double gravity = 9.8; };      // the same for all environments of a batch
//     struct State { double x, v; };                // plain data, so that it can be saved
//     static constexpr ppo::Bounds kResetBounds = {-0.05, 0.05};  // reset(options={"low", "high"})
//     static constexpr double kStepNanoseconds = 20;  // rough cost: decides when threads pay
//
//     static void reset(State&, const Params&, ppo::Rng&, ppo::Bounds);
//     static ppo::StepResult step(State&, const Params&, Action::Value, ppo::Rng&);
//     static void observe(const State&, Observation::Scalar* out);
//   };
//
// An environment may add a tile of ppo::kTile states laid out for vector instructions
// (TiledEnvironment), with a step that the compiler can vectorise; CartPole does.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include "support/host_device.h"
#include "support/numpy_random.h"

namespace ppo::inline PPO_ISA {

// Environments are stored, stepped and shared out to threads in tiles of this many.
inline constexpr int kTile = 64;

using Rng = Pcg64;

template <int kActions>
struct Discrete {
  using Value = std::int32_t;
  static constexpr int kCount = kActions;
};

template <typename T, int kElements>
struct Box {
  using Scalar = T;
  static constexpr int kSize = kElements;
};

// Range that initial states are drawn from.
struct Bounds {
  double low;
  double high;
};

struct StepResult {
  double reward;
  bool terminated;
};

template <typename E>
concept Environment =
    std::is_trivially_copyable_v<typename E::State> &&
    std::is_trivially_copyable_v<typename E::Params> &&
    requires(typename E::State state, const typename E::Params& params, Rng& rng, Bounds bounds,
             typename E::Action::Value action, typename E::Observation::Scalar* out) {
      { E::kName } -> std::convertible_to<const char*>;
      { E::kResetBounds } -> std::convertible_to<Bounds>;
      { E::kStepNanoseconds } -> std::convertible_to<double>;
      { E::reset(state, params, rng, bounds) } -> std::same_as<void>;
      { E::step(state, params, action, rng) } -> std::same_as<StepResult>;
      { E::observe(state, out) } -> std::same_as<void>;
    };

// `Tile` holds kTile states, of which `lanes` are in use; step_tile moves these, also the ones
// whose episode is over (the engine resets them afterwards), with the bits of `step`.
template <typename E>
concept TiledEnvironment =
    Environment<E> &&
    requires(typename E::Tile tile, const typename E::Params& params, const std::int32_t* actions,
             int lanes, double* rewards, bool* terminated) {
      { tile.load(0) } -> std::same_as<typename E::State>;
      { tile.store(0, typename E::State{}) } -> std::same_as<void>;
      { E::step_tile(tile, params, actions, lanes, rewards, terminated) } -> std::same_as<void>;
    };

}  // namespace ppo::inline PPO_ISA
