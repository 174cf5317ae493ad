// The environment engine without Python: thread counts and instruction sets agree, nothing is
// written outside the rows. Meant for the sanitizers, and a test of its own.
#include "envs/vector_env.h"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "check.h"
#include "envs/pendulum.h"
#include "ppo_fast/env.h"
#include "ppo_fast/random.h"
#include "support/sincos.h"

namespace {

constexpr std::ptrdiff_t kEnvs = 150;
constexpr float kUntouched = -12345.0f;

struct Rows {
  // One more row than there are environments, to catch a write past the end.
  explicit Rows(std::ptrdiff_t obs_size)
      : size(obs_size),
        obs(static_cast<std::size_t>((kEnvs + 1) * obs_size), kUntouched),
        final_obs(obs) {}

  std::ptrdiff_t size;
  std::vector<float> obs;
  std::vector<float> final_obs;
  std::vector<double> rewards = std::vector<double>(kEnvs + 1, kUntouched);
  std::vector<char> terminated = std::vector<char>(kEnvs + 1, 7);
  std::vector<char> truncated = std::vector<char>(kEnvs + 1, 7);
  std::vector<double> returns = std::vector<double>(kEnvs + 1, kUntouched);
  std::vector<std::int64_t> lengths = std::vector<std::int64_t>(kEnvs + 1, -1);

  ppo::StepOutputs outputs() {
    ppo::StepOutputs out;
    out.obs = obs.data();
    out.obs_stride = size;
    out.final_obs = final_obs.data();
    out.final_obs_stride = size;
    out.rewards = rewards.data();
    out.terminated = reinterpret_cast<bool*>(terminated.data());
    out.truncated = reinterpret_cast<bool*>(truncated.data());
    out.episode_returns = returns.data();
    out.episode_lengths = lengths.data();
    return out;
  }
  bool operator==(const Rows&) const = default;
};

void reset(ppo::VectorEnv& env, Rows& rows) {
  std::vector<std::uint64_t> seeds(4 * kEnvs);
  for (std::uint32_t i = 0; i < kEnvs; ++i) ppo::seed_words(&i, 1, &seeds[4 * i]);
  const std::vector<std::uint8_t> all(kEnvs, 1);
  std::vector<std::max_align_t> options(env.table().options.bytes / sizeof(std::max_align_t) + 1);
  env.table().options.init(options.data());
  env.reset({seeds.data(), all.data(), all.data(), options.data()}, rows.outputs());
}

void choose(ppo::VectorEnv& env, int step) {
  int i = 0;
  if (env.table().num_actions > 0) {
    for (std::int32_t& action : env.discrete_actions()) {
      action = (step * 7 + i++ * 3) % 5 < 2 ? 0 : 1;
    }
  } else {
    for (float& action : env.continuous_actions()) action = 0.7f * ((step + i++) % 7 - 3);
  }
}

void threads_agree(const char* name, ppo::Autoreset autoreset) {
  const ppo::EnvTable* table = ppo::find_env(name);
  CHECK(table != nullptr);
  ppo::VectorEnv one(*table, kEnvs, 1, autoreset, 60);
  ppo::VectorEnv three(*table, kEnvs, 3, autoreset, 60);
  Rows a(table->obs_size);
  Rows b(table->obs_size);
  reset(one, a);
  reset(three, b);
  // Parameters of their own, but the same ones, must change nothing.
  three.set_param(1, three.param(1, 0), 7);
  std::ptrdiff_t episodes = 0;
  for (int step = 0; step < 300; ++step) {
    choose(one, step);
    choose(three, step);
    const std::ptrdiff_t ended = one.step(a.outputs());
    CHECK(ended == three.step(b.outputs()));
    CHECK(a == b);
    episodes += ended;
  }
  CHECK(episodes > kEnvs);
  CHECK(a.obs.back() == kUntouched && a.final_obs.back() == kUntouched);
  CHECK(a.rewards.back() == kUntouched && a.terminated.back() == 7 && a.truncated.back() == 7);
  CHECK(a.returns.back() == kUntouched && a.lengths.back() == -1);
}

// An environment that throws in its third step.
struct Fragile {
  using Action = ppo::Discrete<2>;
  using Observation = ppo::Box<float, 1>;
  struct Params {};
  struct State {
    int steps;
  };
  static void reset(State& s, const Params&, ppo::Rng&) { s = {0}; }
  static ppo::StepResult step(State& s, const Params&, std::int32_t, ppo::Rng&) {
    if (++s.steps == 3) throw std::runtime_error("three is too much");
    return {0.0, false};
  }
  static void observe(const State& s, float* out) { out[0] = static_cast<float>(s.steps); }
};

void what_is_thrown_arrives(int threads) {
  static constexpr ppo::EnvTable kTable = ppo::make_table<Fragile>("Fragile-v0", 0);
  ppo::VectorEnv env(kTable, kEnvs, threads, ppo::Autoreset::kNextStep, 0);
  Rows rows(1);
  for (int round = 0; round < 2; ++round) {
    reset(env, rows);
    CHECK(env.step(rows.outputs()) == 0);
    CHECK(env.step(rows.outputs()) == 0);
    bool threw = false;
    try {
      env.step(rows.outputs());
    } catch (const ppo::EnvThrew& error) {
      threw = std::strstr(error.what(), "Fragile-v0 threw: three is too much") != nullptr;
    }
    CHECK(threw);
  }
}

// The vector sine and cosine have the bits of the C library wherever they do not ask it.
void sincos_equals_libm() {
  constexpr int kLanes = 64;
  ppo::Rng rng;
  const std::uint32_t seed = 5;
  std::uint64_t words[4];
  ppo::seed_words(&seed, 1, words);
  rng.seed(words);
  for (int round = 0; round < 20000; ++round) {
    double x[kLanes];
    double s[kLanes];
    double c[kLanes];
    const double scale = std::ldexp(1.0, -(round % 40));
    for (double& angle : x) angle = rng.uniform(-0.3, 0.3) * scale;
    x[0] = round % 2 == 0 ? 0.0 : -0.0;
    x[1] = 0.25;
    x[2] = 1e300;
    ppo::sincos_tile<kLanes>(x, kLanes, s, c);
    for (int i = 0; i < kLanes; ++i) {
      const double sine = std::sin(x[i]);
      const double cosine = std::cos(x[i]);
      CHECK(std::memcmp(&s[i], &sine, sizeof(double)) == 0);
      CHECK(std::memcmp(&c[i], &cosine, sizeof(double)) == 0);
    }
  }
}

// Squares are those of pow and powf, also where these are not asked.
void squares_equal_pow() {
  ppo::Rng rng;
  const std::uint64_t words[4] = {5, 6, 7, 8};
  rng.seed(words);
  for (int round = 0; round < 2000000; ++round) {
    const double x = rng.uniform(-1, 1) * std::ldexp(1.0, round % 60 - 30);
    const double expected = ppo::kPow(x, 2.0);
    const double found = ppo::square(x);
    CHECK(std::memcmp(&found, &expected, sizeof found) == 0);
    const float f = static_cast<float>(rng.uniform(-1, 1) * std::ldexp(1.0, round % 30 - 15));
    const float expected_float = ppo::kPowFloat(f, 2.0f);
    const float found_float = ppo::square(f);
    CHECK(std::memcmp(&found_float, &expected_float, sizeof f) == 0);
  }
}

// The quick remainder is fmod's.
void rest_equals_fmod() {
  constexpr double kTurn = 2 * 3.141592653589793;
  ppo::Rng rng;
  const std::uint64_t words[4] = {1, 2, 3, 4};
  rng.seed(words);
  for (int round = 0; round < 2000000; ++round) {
    const double turns = std::floor(rng.uniform(-50, 50));
    const double near = std::nextafter(turns * kTurn, round % 2 == 0 ? 1e3 : -1e3);
    const double wide = rng.uniform(-1, 1) * std::ldexp(1.0, round % 60);
    for (const double x : {near, turns * kTurn, wide}) {
      const double expected = std::fmod(x, kTurn);
      const double rest = ppo::Pendulum::rest_of_turn(x);
      CHECK(std::memcmp(&rest, &expected, sizeof rest) == 0);
    }
  }
}

}  // namespace

int main() {
  rest_equals_fmod();
  squares_equal_pow();
  for (const char* name :
       {"CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"}) {
    threads_agree(name, ppo::Autoreset::kNextStep);
    threads_agree(name, ppo::Autoreset::kSameStep);
  }
  what_is_thrown_arrives(1);
  what_is_thrown_arrives(3);
  sincos_equals_libm();
  return 0;
}
