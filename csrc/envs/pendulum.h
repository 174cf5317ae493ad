// Pendulum-v1: swing a pendulum up and hold it there with a torque in [-2, 2].
//
// Observation: cos(theta), sin(theta), theta_dot as float32. Reward minus the cost of angle, speed
// and torque before the step. Never terminates. The order of operations and the types are those of
// Gymnasium's PendulumEnv under NumPy 2: float64, but for products of the torque alone.
#pragma once

#include <cmath>
#include <cstdint>

#include "ppo_fast/env.h"
#include "support/squares.h"

namespace ppo::inline PPO_ISA {

struct Pendulum {
  static constexpr double kStepNanoseconds = 45;

  using Action = Continuous<1>;
  using Observation = Box<float, 3>;
  static constexpr double kActionLow = -2;
  static constexpr double kActionHigh = 2;

  struct Params {
    double g = 10.0;
    double max_speed = 8;
    double max_torque = 2.0;
    double dt = 0.05;
    double m = 1.0;
    double l = 1.0;
  };
  static constexpr Field<Params> kParams[] = {{"g", &Params::g},
                                              {"max_speed", &Params::max_speed},
                                              {"max_torque", &Params::max_torque},
                                              {"dt", &Params::dt},
                                              {"m", &Params::m},
                                              {"l", &Params::l}};

  struct Options {
    double x_init = 3.141592653589793;
    double y_init = 1.0;
  };
  static constexpr Field<Options> kOptions[] = {{"x_init", &Options::x_init},
                                                {"y_init", &Options::y_init}};

  struct State {
    double theta;
    double theta_dot;
    double last_u;  // for the renderer
    double sine;    // of theta, which the next step needs as well
    double cosine;
  };
  static constexpr Field<State> kState[] = {
      {"theta", &State::theta}, {"theta_dot", &State::theta_dot}, {"last_u", &State::last_u}};

  PPO_HD static State state_of(double theta, double theta_dot, double last_u) {
    return {theta, theta_dot, last_u, std::sin(theta), std::cos(theta)};
  }

  PPO_HD static void reset(State& s, const Params&, Rng& rng, const Options& options) {
    const double theta = rng.uniform(-options.x_init, options.x_init);
    const double theta_dot = rng.uniform(-options.y_init, options.y_init);
    s = state_of(theta, theta_dot, 0);
  }

  // fmod(x, 2 pi), whose result is exact: so is that of an FMA, once the quotient is right. The C
  // library divides bit by bit, which takes as long as the rest of the step.
  PPO_HD static double rest_of_turn(double x) {
    constexpr double kTurn = 2 * 3.141592653589793;
    const double size = std::fabs(x);
    if (!(size < 1e9)) return std::fmod(x, kTurn);
    const double turns = std::trunc(size / kTurn);
    double rest = std::fma(-turns, kTurn, size);
    if (rest < 0) rest = std::fma(1 - turns, kTurn, size);
    if (rest >= kTurn) rest = std::fma(-1 - turns, kTurn, size);
    return std::copysign(rest, x);
  }

  // (x + pi) % (2 pi) - pi with Python's sign.
  PPO_HD static double normalized(double x) {
    constexpr double kPi = 3.141592653589793;
    double rest = rest_of_turn(x + kPi);
    if (rest < 0) rest += 2 * kPi;
    return rest - kPi;
  }

  PPO_HD static StepResult step(State& s, const Params& p, Action::Value actions, Rng&) {
    const float limit = static_cast<float>(p.max_torque);
    float u = actions[0];
    u = u < -limit ? -limit : u;
    u = u > limit ? limit : u;
    const float torque_cost = 0.001f * square(u);
    const double cost = square(normalized(s.theta)) + 0.1 * square(s.theta_dot) + torque_cost;

    const float push = static_cast<float>(3.0 / (p.m * square(p.l))) * u;
    double speed = s.theta_dot + (3 * p.g / (2 * p.l) * s.sine + push) * p.dt;
    speed = speed < -p.max_speed ? -p.max_speed : speed;
    speed = speed > p.max_speed ? p.max_speed : speed;
    s = state_of(s.theta + speed * p.dt, speed, u);
    return {-cost, false};
  }

  PPO_HD static void observe(const State& s, float* out) {
    out[0] = static_cast<float>(s.cosine);
    out[1] = static_cast<float>(s.sine);
    out[2] = static_cast<float>(s.theta_dot);
  }
};

}  // namespace ppo::inline PPO_ISA
