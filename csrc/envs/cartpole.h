// CartPole-v1: a pole on a cart, pushed left (0) or right (1) with 10 N every 20 ms.
//
// Observation: x, x_dot, theta, theta_dot as float32. Reward 1 a step. Terminated beyond |x| = 2.4
// m or |theta| = 12 degrees. Dynamics after A. Barto, R. Sutton, C. Anderson, "Neuronlike Adaptive
// Elements That Can Solve Difficult Learning Control Problems" (1983); equations of R. Florian,
// "Correct equations for the dynamics of the cart-pole system" (2007). The order of operations is
// that of Gymnasium's CartPoleEnv in float64, so that results are equal bit for bit.
#pragma once

#include <cmath>
#include <cstdint>

#include "ppo_fast/env.h"
#include "support/sincos.h"

namespace ppo::inline PPO_ISA {

struct CartPole {
  static constexpr double kStepNanoseconds = 8;

  using Action = Discrete<2>;
  using Observation = Box<float, 4>;

  struct Params {
    bool sutton_barto_reward = false;  // 0 a step and -1 on termination instead of 1 a step
    double gravity = 9.8;
    double masscart = 1.0;
    double masspole = 0.1;
    double total_mass = 0.1 + 1.0;
    double length = 0.5;  // half the pole's
    double polemass_length = 0.1 * 0.5;
    double force_mag = 10.0;
    double tau = 0.02;
    double theta_threshold_radians = 12 * 2 * 3.141592653589793 / 360;
    double x_threshold = 2.4;
    std::int32_t kinematics_integrator = 0;
  };
  static constexpr Field<Params> kParams[] = {
      {"sutton_barto_reward", &Params::sutton_barto_reward},
      {"gravity", &Params::gravity},
      {"masscart", &Params::masscart},
      {"masspole", &Params::masspole},
      {"total_mass", &Params::total_mass},
      {"length", &Params::length},
      {"polemass_length", &Params::polemass_length},
      {"force_mag", &Params::force_mag},
      {"tau", &Params::tau},
      {"theta_threshold_radians", &Params::theta_threshold_radians},
      {"x_threshold", &Params::x_threshold},
      {"kinematics_integrator", &Params::kinematics_integrator, "euler|semi-implicit euler"}};

  struct Options {
    double low = -0.05;
    double high = 0.05;
  };
  static constexpr Field<Options> kOptions[] = {{"low", &Options::low}, {"high", &Options::high}};

  struct State {
    double x;
    double x_dot;
    double theta;
    double theta_dot;
  };
  static constexpr Field<State> kState[] = {{"x", &State::x},
                                            {"x_dot", &State::x_dot},
                                            {"theta", &State::theta},
                                            {"theta_dot", &State::theta_dot}};

  struct Tile {
    alignas(64) double x[kTile];
    alignas(64) double x_dot[kTile];
    alignas(64) double theta[kTile];
    alignas(64) double theta_dot[kTile];

    PPO_HD State load(int i) const { return {x[i], x_dot[i], theta[i], theta_dot[i]}; }
    PPO_HD void store(int i, const State& s) {
      x[i] = s.x;
      x_dot[i] = s.x_dot;
      theta[i] = s.theta;
      theta_dot[i] = s.theta_dot;
    }
  };

  // One Euler step; positions move with the old velocities, or with the new ones if semi-implicit.
  template <bool kSemiImplicit>
  PPO_HD static State move(const State& s, const Params& p, std::int32_t action, double sine,
                           double cosine) {
    const double force = action == 1 ? p.force_mag : -p.force_mag;
    const double pull =
        (force + p.polemass_length * (s.theta_dot * s.theta_dot) * sine) / p.total_mass;
    const double theta_acc =
        (p.gravity * sine - cosine * pull) /
        (p.length * (4.0 / 3.0 - p.masspole * (cosine * cosine) / p.total_mass));
    const double x_acc = pull - p.polemass_length * theta_acc * cosine / p.total_mass;
    const double x_dot = s.x_dot + p.tau * x_acc;
    const double theta_dot = s.theta_dot + p.tau * theta_acc;
    return {s.x + p.tau * (kSemiImplicit ? x_dot : s.x_dot), x_dot,
            s.theta + p.tau * (kSemiImplicit ? theta_dot : s.theta_dot), theta_dot};
  }

  PPO_HD static bool is_terminal(const State& s, const Params& p) {
    return (s.x < -p.x_threshold) | (s.x > p.x_threshold) | (s.theta < -p.theta_threshold_radians) |
           (s.theta > p.theta_threshold_radians);
  }

  PPO_HD static double reward(const Params& params, bool terminated) {
    const double sutton_barto = terminated ? -1.0 : 0.0;
    return params.sutton_barto_reward ? sutton_barto : 1.0;
  }

  PPO_HD static void reset(State& s, const Params&, Rng& rng, const Options& options) {
    s.x = rng.uniform(options.low, options.high);
    s.x_dot = rng.uniform(options.low, options.high);
    s.theta = rng.uniform(options.low, options.high);
    s.theta_dot = rng.uniform(options.low, options.high);
  }

  PPO_HD static StepResult step(State& s, const Params& params, std::int32_t action, Rng&) {
    const double sine = std::sin(s.theta);
    const double cosine = std::cos(s.theta);
    s = params.kinematics_integrator == 0 ? move<false>(s, params, action, sine, cosine)
                                          : move<true>(s, params, action, sine, cosine);
    const bool terminated = is_terminal(s, params);
    return {reward(params, terminated), terminated};
  }

  static void step_tile(Tile& tile, const Params& params, const std::int32_t* actions, int lanes,
                        double* rewards, bool* terminated) {
    params.kinematics_integrator == 0
        ? move_tile<false>(tile, params, actions, lanes, rewards, terminated)
        : move_tile<true>(tile, params, actions, lanes, rewards, terminated);
  }

  template <bool kSemiImplicit>
  static void move_tile(Tile& tile, const Params& params, const std::int32_t* actions, int lanes,
                        double* rewards, bool* terminated) {
    const Params p = params;  // a copy that no store can reach
    alignas(64) double sine[kTile];
    alignas(64) double cosine[kTile];
    alignas(64) double over[kTile];
    sincos_tile<kTile>(tile.theta, lanes, sine, cosine);
    for (int i = 0; i < kTile; ++i) {
      const State s = move<kSemiImplicit>(tile.load(i), p, actions[i], sine[i], cosine[i]);
      tile.store(i, s);
      over[i] = is_terminal(s, p) ? 1.0 : 0.0;
    }
    for (int i = 0; i < kTile; ++i) terminated[i] = over[i] != 0.0;
    for (int i = 0; i < kTile; ++i) rewards[i] = reward(p, over[i] != 0.0);
  }

  PPO_HD static void observe(const State& s, float* out) {
    out[0] = static_cast<float>(s.x);
    out[1] = static_cast<float>(s.x_dot);
    out[2] = static_cast<float>(s.theta);
    out[3] = static_cast<float>(s.theta_dot);
  }
};

static_assert(TiledEnvironment<CartPole>);

}  // namespace ppo::inline PPO_ISA
