// Acrobot-v1: two links that hang from a joint; torque -1 (0), 0 (1) or 1 (2) between them has to
// swing the tip up.
//
// Observation: cos and sin of both angles, both angular velocities, as float32. Reward -1 a step, 0
// on termination. Dynamics after R. Sutton, "Generalization in Reinforcement Learning" (1996), by
// one Runge-Kutta step of fourth order. The order of operations is that of Gymnasium's AcrobotEnv in
// float64; the initial state, and its observation, are float32.
#pragma once

#include <cmath>
#include <cstdint>

#include "ppo_fast/env.h"
#include "support/numpy_trig.h"
#include "support/squares.h"

namespace ppo::inline PPO_ISA {

struct Acrobot {
  static constexpr double kStepNanoseconds = 300;
  static constexpr double kPi = 3.141592653589793;

  using Action = Discrete<3>;
  using Observation = Box<float, 6>;

  struct Params {
    double dt = 0.2;
    double LINK_LENGTH_1 = 1.0;
    double LINK_LENGTH_2 = 1.0;
    double LINK_MASS_1 = 1.0;
    double LINK_MASS_2 = 1.0;
    double LINK_COM_POS_1 = 0.5;
    double LINK_COM_POS_2 = 0.5;
    double LINK_MOI = 1.0;
    double MAX_VEL_1 = 4 * kPi;
    double MAX_VEL_2 = 9 * kPi;
    double torque_noise_max = 0.0;
    std::int32_t book_or_nips = 0;
  };
  static constexpr Field<Params> kParams[] = {{"dt", &Params::dt},
                                              {"LINK_LENGTH_1", &Params::LINK_LENGTH_1},
                                              {"LINK_LENGTH_2", &Params::LINK_LENGTH_2},
                                              {"LINK_MASS_1", &Params::LINK_MASS_1},
                                              {"LINK_MASS_2", &Params::LINK_MASS_2},
                                              {"LINK_COM_POS_1", &Params::LINK_COM_POS_1},
                                              {"LINK_COM_POS_2", &Params::LINK_COM_POS_2},
                                              {"LINK_MOI", &Params::LINK_MOI},
                                              {"MAX_VEL_1", &Params::MAX_VEL_1},
                                              {"MAX_VEL_2", &Params::MAX_VEL_2},
                                              {"torque_noise_max", &Params::torque_noise_max},
                                              {"book_or_nips", &Params::book_or_nips, "book|nips"}};

  struct Options {
    double low = -0.1;
    double high = 0.1;
  };
  static constexpr Field<Options> kOptions[] = {{"low", &Options::low}, {"high", &Options::high}};

  struct State {
    double theta1;
    double theta2;
    double dtheta1;
    double dtheta2;
    double cos1;  // of theta1 and theta2: the observation, and what the next step starts with
    double sin1;
    double cos2;
    double sin2;
    bool is_float;  // no step since the reset
  };
  static constexpr Field<State> kState[] = {{"theta1", &State::theta1},
                                            {"theta2", &State::theta2},
                                            {"dtheta1", &State::dtheta1},
                                            {"dtheta2", &State::dtheta2}};

  struct Derivative {
    double of[4];
  };

  PPO_HD static State state_of(double theta1, double theta2, double dtheta1, double dtheta2,
                               bool is_float) {
    return {theta1,           theta2,           dtheta1,          dtheta2, std::cos(theta1),
            std::sin(theta1), std::cos(theta2), std::sin(theta2), is_float};
  }

  PPO_HD static void reset(State& s, const Params&, Rng& rng, const Options& options) {
    float draw[4];
    for (float& x : draw) x = static_cast<float>(rng.uniform(options.low, options.high));
    s = state_of(draw[0], draw[1], draw[2], draw[3], true);
  }

  // d/dt of (theta1, theta2, dtheta1, dtheta2), with cos2 and sin2 of theta2.
  PPO_HD static Derivative derivative(const Params& p, double theta1, double theta2, double dtheta1,
                                      double dtheta2, double cos2, double sin2, double torque) {
    constexpr double g = 9.8;
    const double m1 = p.LINK_MASS_1;
    const double m2 = p.LINK_MASS_2;
    const double l1 = p.LINK_LENGTH_1;
    const double lc1 = p.LINK_COM_POS_1;
    const double lc2 = p.LINK_COM_POS_2;
    const double inertia = p.LINK_MOI;
    const double d1 = m1 * square(lc1) + m2 * (square(l1) + square(lc2) + 2 * l1 * lc2 * cos2) +
                      inertia + inertia;
    const double d2 = m2 * (square(lc2) + l1 * lc2 * cos2) + inertia;
    const double phi2 = m2 * lc2 * g * std::cos(theta1 + theta2 - kPi / 2.0);
    const double phi1 = -m2 * l1 * lc2 * square(dtheta2) * sin2 -
                        2 * m2 * l1 * lc2 * dtheta2 * dtheta1 * sin2 +
                        (m1 * lc1 + m2 * l1) * g * std::cos(theta1 - kPi / 2) + phi2;
    const double pull = torque + d2 / d1 * phi1;
    const double coupled =
        p.book_or_nips != 0 ? pull - phi2 : pull - m2 * l1 * lc2 * square(dtheta1) * sin2 - phi2;
    const double ddtheta2 = coupled / (m2 * square(lc2) + inertia - square(d2) / d1);
    const double ddtheta1 = -(d2 * ddtheta2 + phi1) / d1;
    return {{dtheta1, dtheta2, ddtheta1, ddtheta2}};
  }

  PPO_HD static Derivative derivative_after(const Params& p, const double y[4], double dt,
                                            const Derivative& k, double torque) {
    const double theta2 = y[1] + dt * k.of[1];
    return derivative(p, y[0] + dt * k.of[0], theta2, y[2] + dt * k.of[2], y[3] + dt * k.of[3],
                      std::cos(theta2), std::sin(theta2), torque);
  }

  PPO_HD static double wrapped(double x) {
    while (x > kPi) x = x - 2 * kPi;
    while (x < -kPi) x = x + 2 * kPi;
    return x;
  }
  PPO_HD static double bounded(double x, double limit) {
    const double above = x < -limit ? -limit : x;
    return above > limit ? limit : above;
  }

  PPO_HD static StepResult step(State& s, const Params& p, std::int32_t action, Rng& rng) {
    double torque = action - 1;
    if (p.torque_noise_max > 0) torque += rng.uniform(-p.torque_noise_max, p.torque_noise_max);
    const double y[4] = {s.theta1, s.theta2, s.dtheta1, s.dtheta2};
    const double half = p.dt / 2.0;
    const Derivative k1 = derivative(p, y[0], y[1], y[2], y[3], s.cos2, s.sin2, torque);
    const Derivative k2 = derivative_after(p, y, half, k1, torque);
    const Derivative k3 = derivative_after(p, y, half, k2, torque);
    const Derivative k4 = derivative_after(p, y, p.dt, k3, torque);
    double next[4];
    for (int i = 0; i < 4; ++i) {
      next[i] = y[i] + p.dt / 6.0 * (k1.of[i] + 2 * k2.of[i] + 2 * k3.of[i] + k4.of[i]);
    }
    s = state_of(wrapped(next[0]), wrapped(next[1]), bounded(next[2], p.MAX_VEL_1),
                 bounded(next[3], p.MAX_VEL_2), false);
    const bool terminated = -s.cos1 - std::cos(s.theta2 + s.theta1) > 1.0;
    return {terminated ? 0.0 : -1.0, terminated};
  }

  PPO_HD static void observe(const State& s, float* out) {
    if (s.is_float) {
      const float theta1 = static_cast<float>(s.theta1);
      const float theta2 = static_cast<float>(s.theta2);
      out[0] = numpy_cos(theta1);
      out[1] = numpy_sin(theta1);
      out[2] = numpy_cos(theta2);
      out[3] = numpy_sin(theta2);
    } else {
      out[0] = static_cast<float>(s.cos1);
      out[1] = static_cast<float>(s.sin1);
      out[2] = static_cast<float>(s.cos2);
      out[3] = static_cast<float>(s.sin2);
    }
    out[4] = static_cast<float>(s.dtheta1);
    out[5] = static_cast<float>(s.dtheta2);
  }
};

}  // namespace ppo::inline PPO_ISA
