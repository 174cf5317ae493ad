// MountainCar-v0: a car in a valley, too weak to drive straight up. Pushed left (0), not at all (1)
// or right (2).
//
// Observation: position, velocity as float32. Reward -1 a step. Terminated at the flag. Dynamics
// after A. Moore, "Efficient Memory-based Learning for Robot Control" (1990). The order of
// operations is that of Gymnasium's MountainCarEnv in float64.
#pragma once

#include <cmath>
#include <cstdint>

#include "ppo_fast/env.h"

namespace ppo::inline PPO_ISA {

struct MountainCar {
  static constexpr double kStepNanoseconds = 25;

  using Action = Discrete<3>;
  using Observation = Box<float, 2>;

  struct Params {
    double min_position = -1.2;
    double max_position = 0.6;
    double max_speed = 0.07;
    double goal_position = 0.5;
    double goal_velocity = 0;
    double force = 0.001;
    double gravity = 0.0025;
  };
  static constexpr Field<Params> kParams[] = {{"goal_velocity", &Params::goal_velocity},
                                              {"min_position", &Params::min_position},
                                              {"max_position", &Params::max_position},
                                              {"max_speed", &Params::max_speed},
                                              {"goal_position", &Params::goal_position},
                                              {"force", &Params::force},
                                              {"gravity", &Params::gravity}};

  struct Options {
    double low = -0.6;
    double high = -0.4;
  };
  static constexpr Field<Options> kOptions[] = {{"low", &Options::low}, {"high", &Options::high}};

  struct State {
    double position;
    double velocity;
  };
  static constexpr Field<State> kState[] = {{"position", &State::position},
                                            {"velocity", &State::velocity}};

  PPO_HD static void reset(State& s, const Params&, Rng& rng, const Options& options) {
    s = {rng.uniform(options.low, options.high), 0};
  }

  PPO_HD static StepResult step(State& s, const Params& p, std::int32_t action, Rng&) {
    double velocity =
        s.velocity + ((action - 1) * p.force + std::cos(3 * s.position) * (-p.gravity));
    velocity = velocity < -p.max_speed ? -p.max_speed : velocity;
    velocity = velocity > p.max_speed ? p.max_speed : velocity;
    double position = s.position + velocity;
    position = position < p.min_position ? p.min_position : position;
    position = position > p.max_position ? p.max_position : position;
    if (position == p.min_position && velocity < 0) velocity = 0;
    s = {position, velocity};
    return {-1.0, position >= p.goal_position && velocity >= p.goal_velocity};
  }

  PPO_HD static void observe(const State& s, float* out) {
    out[0] = static_cast<float>(s.position);
    out[1] = static_cast<float>(s.velocity);
  }
};

}  // namespace ppo::inline PPO_ISA
