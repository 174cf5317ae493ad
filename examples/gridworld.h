// A grid with a goal: the agent moves up (0), down (1), left (2) or right (3) until it is there.
//
// Observation: row and column of the agent, row and column of the goal, in [0, 1]. Reward 1 at the
// goal, a small price for every step.
#include <ppo_fast/env.h>

struct GridWorld {
  using Action = ppo::Discrete<4>;
  using Observation = ppo::Box<float, 4>;
  static constexpr double kObservationLow = 0;
  static constexpr double kObservationHigh = 1;
  static constexpr double kRewardThreshold = 0.9;

  struct Params {
    std::int32_t size = 5;
    double step_reward = -0.01;
  };
  static constexpr ppo::Field<Params> kParams[] = {{"size", &Params::size},
                                                   {"step_reward", &Params::step_reward}};

  struct State {
    std::int32_t row, column, goal_row, goal_column, size;
  };
  static constexpr ppo::Field<State> kState[] = {{"row", &State::row},
                                                 {"column", &State::column},
                                                 {"goal_row", &State::goal_row},
                                                 {"goal_column", &State::goal_column}};

  PPO_HD static bool is_at_goal(const State& s) {
    return s.row == s.goal_row && s.column == s.goal_column;
  }

  PPO_HD static void reset(State& s, const Params& p, ppo::Rng& rng) {
    ppo::require(p.size >= 2, "size must be at least 2");
    const auto draw = [&] { return static_cast<std::int32_t>(rng.integers(0, p.size)); };
    s = {draw(), draw(), draw(), draw(), p.size};
    while (is_at_goal(s)) s.goal_row = draw(), s.goal_column = draw();
  }

  PPO_HD static ppo::StepResult step(State& s, const Params& p, Action::Value action, ppo::Rng&) {
    const std::int32_t last = s.size - 1;
    if (action == 0 && s.row > 0) --s.row;
    if (action == 1 && s.row < last) ++s.row;
    if (action == 2 && s.column > 0) --s.column;
    if (action == 3 && s.column < last) ++s.column;
    const bool arrived = is_at_goal(s);
    return {arrived ? 1.0 : p.step_reward, arrived};
  }

  PPO_HD static void observe(const State& s, float* out) {
    const float last = static_cast<float>(s.size - 1);
    out[0] = s.row / last;
    out[1] = s.column / last;
    out[2] = s.goal_row / last;
    out[3] = s.goal_column / last;
  }
};

PPO_FAST_ENV(GridWorld, "GridWorld-v0", 50)
