// The grid of gridworld.h without cells: the agent moves by up to 0.1 in either direction until it
// is within 0.1 of the goal.
//
// Observation: position of the agent and of the goal in the unit square. Reward 1 at the goal, a
// small price for every step.
#include <ppo_fast/env.h>

#include <algorithm>
#include <cmath>

struct ContinuousGridWorld {
  using Action = ppo::Continuous<2>;
  using Observation = ppo::Box<float, 4>;
  static constexpr double kActionLow = -1;
  static constexpr double kActionHigh = 1;
  static constexpr double kObservationLow = 0;
  static constexpr double kObservationHigh = 1;
  static constexpr double kRewardThreshold = 0.9;

  struct Params {
    double reach = 0.1;
    double step_reward = -0.01;
  };
  static constexpr ppo::Field<Params> kParams[] = {{"reach", &Params::reach},
                                                   {"step_reward", &Params::step_reward}};

  struct State {
    double x, y, goal_x, goal_y;
  };
  static constexpr ppo::Field<State> kState[] = {
      {"x", &State::x}, {"y", &State::y}, {"goal_x", &State::goal_x}, {"goal_y", &State::goal_y}};

  PPO_HD static bool is_at_goal(const State& s, const Params& p) {
    return std::hypot(s.x - s.goal_x, s.y - s.goal_y) <= p.reach;
  }

  PPO_HD static void reset(State& s, const Params& p, ppo::Rng& rng) {
    do {
      s = {rng.random(), rng.random(), rng.random(), rng.random()};
    } while (is_at_goal(s, p));
  }

  PPO_HD static double moved(double from, float by) {
    return std::clamp(from + 0.1 * std::clamp(static_cast<double>(by), -1.0, 1.0), 0.0, 1.0);
  }

  PPO_HD static ppo::StepResult step(State& s, const Params& p, Action::Value action, ppo::Rng&) {
    s.x = moved(s.x, action[0]);
    s.y = moved(s.y, action[1]);
    const bool arrived = is_at_goal(s, p);
    return {arrived ? 1.0 : p.step_reward, arrived};
  }

  PPO_HD static void observe(const State& s, float* out) {
    out[0] = static_cast<float>(s.x);
    out[1] = static_cast<float>(s.y);
    out[2] = static_cast<float>(s.goal_x);
    out[3] = static_cast<float>(s.goal_y);
  }
};

PPO_FAST_ENV(ContinuousGridWorld, "ContinuousGridWorld-v0", 50)
