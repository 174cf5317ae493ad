// MountainCarContinuous-v0: the car of mountain_car.h with a force in [-1, 1] and a price for it.
//
// Observation: position, velocity as float32. Reward 100 at the flag, less a tenth of the squared
// action. Gymnasium keeps the state in float32 but for the first step after a reset, and a force
// that was clipped is a Python float, which does not round to float32 before the sum. Both are
// followed here, so that results are equal bit for bit (NumPy >= 2).
#pragma once

#include <cmath>
#include <cstdint>

#include "ppo_fast/env.h"

namespace ppo::inline PPO_ISA {

struct MountainCarContinuous {
  static constexpr double kStepNanoseconds = 30;

  using Action = Continuous<1>;
  using Observation = Box<float, 2>;
  static constexpr double kActionLow = -1;
  static constexpr double kActionHigh = 1;

  struct Params {
    double min_action = -1.0;
    double max_action = 1.0;
    double min_position = -1.2;
    double max_position = 0.6;
    double max_speed = 0.07;
    double goal_position = 0.45;
    double goal_velocity = 0;
    double power = 0.0015;
  };
  static constexpr Field<Params> kParams[] = {
      {"goal_velocity", &Params::goal_velocity}, {"min_action", &Params::min_action},
      {"max_action", &Params::max_action},       {"min_position", &Params::min_position},
      {"max_position", &Params::max_position},   {"max_speed", &Params::max_speed},
      {"goal_position", &Params::goal_position}, {"power", &Params::power}};

  struct Options {
    double low = -0.6;
    double high = -0.4;
  };
  static constexpr Field<Options> kOptions[] = {{"low", &Options::low}, {"high", &Options::high}};

  struct State {
    double position;
    double velocity;
    bool is_double;  // no step since the reset
  };
  static constexpr Field<State> kState[] = {{"position", &State::position},
                                            {"velocity", &State::velocity}};

  PPO_HD static void reset(State& s, const Params&, Rng& rng, const Options& options) {
    s = {rng.uniform(options.low, options.high), 0, true};
  }

  // A number of type T, or a Python float: what a value becomes at its limit. With a number of type T
  // another Python float is compared in T, with a Python float in double.
  template <typename T>
  struct Number {
    T value;
    double python;
    bool is_python;

    PPO_HD bool at_least(double limit) const {
      return is_python ? python >= limit : value >= static_cast<T>(limit);
    }
  };
  template <typename T>
  PPO_HD static Number<T> limited(T value, double low, double high) {
    if (value > static_cast<T>(high)) return {static_cast<T>(high), high, true};
    if (value < static_cast<T>(low)) return {static_cast<T>(low), low, true};
    return {value, 0, false};
  }

  // T: the type of the state.
  template <typename T>
  PPO_HD static bool move(State& s, const Params& p, float action) {
    const T position_before = static_cast<T>(s.position);
    const double slope = 0.0025 * std::cos(static_cast<double>(T(3) * position_before));
    const Number<float> force = limited(action, p.min_action, p.max_action);
    const double push = force.is_python
                            ? force.python * p.power - slope
                            : action * static_cast<float>(p.power) - static_cast<float>(slope);
    Number<T> velocity =
        limited(static_cast<T>(s.velocity) + static_cast<T>(push), -p.max_speed, p.max_speed);
    const Number<T> position =
        limited(position_before + velocity.value, p.min_position, p.max_position);
    if (position.value == static_cast<T>(p.min_position) && velocity.value < 0) {
      velocity = {T(0), 0, true};
    }
    s = {static_cast<double>(static_cast<float>(position.value)),
         static_cast<double>(static_cast<float>(velocity.value)), false};
    return position.at_least(p.goal_position) && velocity.at_least(p.goal_velocity);
  }

  PPO_HD static StepResult step(State& s, const Params& p, Action::Value actions, Rng&) {
    const float action = actions[0];
    const bool terminated = s.is_double ? move<double>(s, p, action) : move<float>(s, p, action);
    const double squared = static_cast<double>(action) * action;
    return {(terminated ? 100.0 : 0.0) - squared * 0.1, terminated};
  }

  PPO_HD static void observe(const State& s, float* out) {
    out[0] = static_cast<float>(s.position);
    out[1] = static_cast<float>(s.velocity);
  }
};

}  // namespace ppo::inline PPO_ISA
