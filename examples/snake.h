// Snake on an 8 x 8 board: turn up (0), right (1), down (2) or left (3), eat, do not bite yourself.
//
// Observation: the board, 0 for empty, 1 for the body, 2 for the head, 3 for food. Reward 1 for
// food, -1 for a wall or a bite, which end the episode, as a full board does.
#include <ppo_fast/env.h>

struct Snake {
  static constexpr int kSide = 8;
  static constexpr int kCells = kSide * kSide;

  using Action = ppo::Discrete<4>;
  using Observation = ppo::Box<std::uint8_t, kSide, kSide>;
  static constexpr double kObservationHigh = 3;

  struct Params {
    double food_reward = 1;
    double death_reward = -1;
  };
  static constexpr ppo::Field<Params> kParams[] = {{"food_reward", &Params::food_reward},
                                                   {"death_reward", &Params::death_reward}};

  struct State {
    std::int8_t body[kCells];  // a ring of cells: the tail is at `tail`, the head length - 1 behind
    std::int8_t is_body[kCells];
    std::int32_t tail, length, food, direction;
  };
  static constexpr ppo::Field<State> kState[] = {
      {"length", &State::length}, {"food", &State::food}, {"direction", &State::direction}};

  PPO_HD static int head(const State& s) { return s.body[(s.tail + s.length - 1) % kCells]; }

  PPO_HD static void push(State& s, int cell) {
    s.body[(s.tail + s.length++) % kCells] = static_cast<std::int8_t>(cell);
    s.is_body[cell] = 1;
  }

  // Food lies on one of the free cells, each as likely.
  PPO_HD static void place_food(State& s, ppo::Rng& rng) {
    std::int64_t left = rng.integers(0, kCells - s.length);
    int cell = 0;
    while (s.is_body[cell] || left-- > 0) ++cell;
    s.food = cell;
  }

  PPO_HD static void reset(State& s, const Params&, ppo::Rng& rng) {
    s = {};
    push(s, kSide / 2 * kSide + 1);
    push(s, kSide / 2 * kSide + 2);
    s.direction = 1;
    place_food(s, rng);
  }

  PPO_HD static ppo::StepResult step(State& s, const Params& p, Action::Value action,
                                     ppo::Rng& rng) {
    if ((action ^ s.direction) != 2) s.direction = action;  // it cannot turn back on itself
    const int row = head(s) / kSide + (s.direction == 2) - (s.direction == 0);
    const int column = head(s) % kSide + (s.direction == 1) - (s.direction == 3);
    if (row < 0 || row >= kSide || column < 0 || column >= kSide) return {p.death_reward, true};
    const int cell = row * kSide + column;
    const bool eats = cell == s.food;
    if (!eats) {  // the tail moves on first, so its cell is free
      s.is_body[s.body[s.tail]] = 0;
      s.tail = (s.tail + 1) % kCells;
      --s.length;
    }
    if (s.is_body[cell]) return {p.death_reward, true};
    push(s, cell);
    if (!eats) return {0.0, false};
    if (s.length == kCells) return {p.food_reward, true};
    place_food(s, rng);
    return {p.food_reward, false};
  }

  PPO_HD static void observe(const State& s, std::uint8_t* out) {
    for (int i = 0; i < kCells; ++i) out[i] = static_cast<std::uint8_t>(s.is_body[i]);
    out[head(s)] = 2;
    if (s.length < kCells) out[s.food] = 3;
  }
};

PPO_FAST_ENV(Snake, "Snake-v0", 500)
