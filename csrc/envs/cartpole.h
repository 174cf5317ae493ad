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
  static constexpr const char* kName = "CartPole-v1";
  static constexpr Bounds kResetBounds = {-0.05, 0.05};
  static constexpr double kStepNanoseconds = 8;

  using Action = Discrete<2>;
  using Observation = Box<float, 4>;

  struct Params {
    bool sutton_barto_reward = false;  // 0 a step and -1 on termination instead of 1 a step
  };

  struct State {
    double x;
    double x_dot;
    double theta;
    double theta_dot;
  };

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

  static constexpr double kGravity = 9.8;
  static constexpr double kPoleMass = 0.1;
  static constexpr double kTotalMass = kPoleMass + 1.0;
  static constexpr double kHalfLength = 0.5;
  static constexpr double kPoleMassLength = kPoleMass * kHalfLength;
  static constexpr double kForce = 10.0;
  static constexpr double kTau = 0.02;
  static constexpr double kThetaLimit = 12 * 2 * 3.141592653589793 / 360;
  static constexpr double kXLimit = 2.4;

  // One Euler step; positions move with the old velocities.
  PPO_HD static State move(const State& s, std::int32_t action, double sine, double cosine) {
    const double force = action == 1 ? kForce : -kForce;
    const double pull = (force + kPoleMassLength * (s.theta_dot * s.theta_dot) * sine) / kTotalMass;
    const double theta_acc =
        (kGravity * sine - cosine * pull) /
        (kHalfLength * (4.0 / 3.0 - kPoleMass * (cosine * cosine) / kTotalMass));
    const double x_acc = pull - kPoleMassLength * theta_acc * cosine / kTotalMass;
    return {s.x + kTau * s.x_dot, s.x_dot + kTau * x_acc, s.theta + kTau * s.theta_dot,
            s.theta_dot + kTau * theta_acc};
  }

  PPO_HD static bool is_terminal(const State& s) {
    return (s.x < -kXLimit) | (s.x > kXLimit) | (s.theta < -kThetaLimit) | (s.theta > kThetaLimit);
  }

  PPO_HD static double reward(const Params& params, bool terminated) {
    const double sutton_barto = terminated ? -1.0 : 0.0;
    return params.sutton_barto_reward ? sutton_barto : 1.0;
  }

  PPO_HD static void reset(State& s, const Params&, Rng& rng, Bounds bounds) {
    s.x = rng.uniform(bounds.low, bounds.high);
    s.x_dot = rng.uniform(bounds.low, bounds.high);
    s.theta = rng.uniform(bounds.low, bounds.high);
    s.theta_dot = rng.uniform(bounds.low, bounds.high);
  }

  PPO_HD static StepResult step(State& s, const Params& params, std::int32_t action, Rng&) {
    s = move(s, action, std::sin(s.theta), std::cos(s.theta));
    const bool terminated = is_terminal(s);
    return {reward(params, terminated), terminated};
  }

  static void step_tile(Tile& tile, const Params& params, const std::int32_t* actions, int lanes,
                        double* rewards, bool* terminated) {
    alignas(64) double sine[kTile];
    alignas(64) double cosine[kTile];
    alignas(64) double over[kTile];
    sincos_tile<kTile>(tile.theta, lanes, sine, cosine);
    for (int i = 0; i < kTile; ++i) {
      const State s = move(tile.load(i), actions[i], sine[i], cosine[i]);
      tile.store(i, s);
      over[i] = is_terminal(s) ? 1.0 : 0.0;
    }
    for (int i = 0; i < kTile; ++i) terminated[i] = over[i] != 0.0;
    for (int i = 0; i < kTile; ++i) rewards[i] = reward(params, over[i] != 0.0);
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
