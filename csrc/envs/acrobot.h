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
  static constexpr double kGravity = 9.8;

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

  // The products of Params that the equations of motion begin with, formed as they form them.
  struct Constants {
    double first_inertia;   // m1 lc1^2
    double lengths;         // l1^2 + lc2^2
    double coupling;        // 2 l1 lc2
    double second_length;   // lc2^2
    double product;         // l1 lc2
    double gravity2;        // m2 lc2 g
    double gravity1;        // (m1 lc1 + m2 l1) g
    double centrifugal2;    // -m2 l1 lc2
    double coriolis;        // 2 m2 l1 lc2
    double centrifugal1;    // m2 l1 lc2
    double second_inertia;  // m2 lc2^2 + I2
    double m2;
    double inertia;
    bool nips;

    PPO_HD explicit Constants(const Params& p)
        : first_inertia(p.LINK_MASS_1 * square(p.LINK_COM_POS_1)),
          lengths(square(p.LINK_LENGTH_1) + square(p.LINK_COM_POS_2)),
          coupling(2 * p.LINK_LENGTH_1 * p.LINK_COM_POS_2),
          second_length(square(p.LINK_COM_POS_2)),
          product(p.LINK_LENGTH_1 * p.LINK_COM_POS_2),
          gravity2(p.LINK_MASS_2 * p.LINK_COM_POS_2 * kGravity),
          gravity1((p.LINK_MASS_1 * p.LINK_COM_POS_1 + p.LINK_MASS_2 * p.LINK_LENGTH_1) * kGravity),
          centrifugal2(-p.LINK_MASS_2 * p.LINK_LENGTH_1 * p.LINK_COM_POS_2),
          coriolis(2 * p.LINK_MASS_2 * p.LINK_LENGTH_1 * p.LINK_COM_POS_2),
          centrifugal1(p.LINK_MASS_2 * p.LINK_LENGTH_1 * p.LINK_COM_POS_2),
          second_inertia(p.LINK_MASS_2 * second_length + p.LINK_MOI),
          m2(p.LINK_MASS_2),
          inertia(p.LINK_MOI),
          nips(p.book_or_nips != 0) {}
  };

  // Angles and angular velocities.
  struct Motion {
    double theta1;
    double theta2;
    double dtheta1;
    double dtheta2;
  };

  // d/dt of a motion, with cos2 and sin2 of its theta2.
  PPO_HD static Motion derivative(const Constants& c, const Motion& s, double cos2, double sin2,
                                  double torque) {
    const double d1 =
        c.first_inertia + c.m2 * (c.lengths + c.coupling * cos2) + c.inertia + c.inertia;
    const double d2 = c.m2 * (c.second_length + c.product * cos2) + c.inertia;
    const double phi2 = c.gravity2 * std::cos(s.theta1 + s.theta2 - kPi / 2.0);
    const double phi1 = c.centrifugal2 * square(s.dtheta2) * sin2 -
                        c.coriolis * s.dtheta2 * s.dtheta1 * sin2 +
                        c.gravity1 * std::cos(s.theta1 - kPi / 2) + phi2;
    const double pull = torque + d2 / d1 * phi1;
    const double coupled =
        c.nips ? pull - phi2 : pull - c.centrifugal1 * square(s.dtheta1) * sin2 - phi2;
    const double ddtheta2 = coupled / (c.second_inertia - square(d2) / d1);
    return {s.dtheta1, s.dtheta2, -(d2 * ddtheta2 + phi1) / d1, ddtheta2};
  }

  PPO_HD static Motion derivative_after(const Constants& c, const Motion& s, double dt,
                                        const Motion& k, double torque) {
    const Motion after = {s.theta1 + dt * k.theta1, s.theta2 + dt * k.theta2,
                          s.dtheta1 + dt * k.dtheta1, s.dtheta2 + dt * k.dtheta2};
    return derivative(c, after, std::cos(after.theta2), std::sin(after.theta2), torque);
  }

  // A Runge-Kutta step of one coordinate from its four slopes.
  PPO_HD static double advanced(double y, double dt, double k1, double k2, double k3, double k4) {
    return y + dt / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4);
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
    const Constants c(p);
    const Motion y = {s.theta1, s.theta2, s.dtheta1, s.dtheta2};
    const double half = p.dt / 2.0;
    const Motion k1 = derivative(c, y, s.cos2, s.sin2, torque);
    const Motion k2 = derivative_after(c, y, half, k1, torque);
    const Motion k3 = derivative_after(c, y, half, k2, torque);
    const Motion k4 = derivative_after(c, y, p.dt, k3, torque);
    s = state_of(wrapped(advanced(y.theta1, p.dt, k1.theta1, k2.theta1, k3.theta1, k4.theta1)),
                 wrapped(advanced(y.theta2, p.dt, k1.theta2, k2.theta2, k3.theta2, k4.theta2)),
                 bounded(advanced(y.dtheta1, p.dt, k1.dtheta1, k2.dtheta1, k3.dtheta1, k4.dtheta1),
                         p.MAX_VEL_1),
                 bounded(advanced(y.dtheta2, p.dt, k1.dtheta2, k2.dtheta2, k3.dtheta2, k4.dtheta2),
                         p.MAX_VEL_2),
                 false);
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
