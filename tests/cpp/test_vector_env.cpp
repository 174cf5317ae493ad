// The environment engine without Python: thread counts and instruction sets agree, nothing is
// written outside the rows. Meant for the sanitizers, and a test of its own.
#include "envs/vector_env.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "ppo_fast/env.h"
#include "support/numpy_random.h"
#include "support/sincos.h"

namespace {

constexpr std::ptrdiff_t kEnvs = 150;
constexpr std::ptrdiff_t kObs = 4;
constexpr float kUntouched = -12345.0f;

struct Rows {
  // One more row than there are environments, to catch a write past the end.
  std::vector<float> obs = std::vector<float>((kEnvs + 1) * kObs, kUntouched);
  std::vector<float> final_obs = std::vector<float>((kEnvs + 1) * kObs, kUntouched);
  std::vector<double> rewards = std::vector<double>(kEnvs + 1, kUntouched);
  std::vector<char> terminated = std::vector<char>(kEnvs + 1, 7);
  std::vector<char> truncated = std::vector<char>(kEnvs + 1, 7);

  ppo::StepOutputs outputs() {
    ppo::StepOutputs out;
    out.obs = obs.data();
    out.obs_stride = kObs;
    out.final_obs = final_obs.data();
    out.final_obs_stride = kObs;
    out.rewards = rewards.data();
    out.terminated = reinterpret_cast<bool*>(terminated.data());
    out.truncated = reinterpret_cast<bool*>(truncated.data());
    return out;
  }
};

void reset(ppo::VectorEnv& env, Rows& rows) {
  std::vector<std::uint64_t> seeds(4 * kEnvs);
  for (std::uint32_t i = 0; i < kEnvs; ++i) ppo::seed_words(&i, 1, &seeds[4 * i]);
  const std::vector<std::uint8_t> all(kEnvs, 1);
  env.reset({seeds.data(), all.data(), all.data(), -0.05, 0.05}, rows.outputs());
}

void choose(ppo::VectorEnv& env, int step) {
  int i = 0;
  for (std::int32_t& action : env.actions()) action = (step * 7 + i++ * 3) % 5 < 2 ? 0 : 1;
}

void threads_agree(ppo::Autoreset autoreset) {
  const ppo::EnvTable* table = ppo::find_env("CartPole-v1");
  CHECK(table != nullptr);
  ppo::VectorEnv one(*table, kEnvs, 1, autoreset, 60);
  ppo::VectorEnv three(*table, kEnvs, 3, autoreset, 60);
  Rows a;
  Rows b;
  reset(one, a);
  reset(three, b);
  std::ptrdiff_t episodes = 0;
  for (int step = 0; step < 300; ++step) {
    choose(one, step);
    choose(three, step);
    const std::ptrdiff_t ended = one.step(a.outputs());
    CHECK(ended == three.step(b.outputs()));
    CHECK(a.obs == b.obs && a.final_obs == b.final_obs && a.rewards == b.rewards);
    CHECK(a.terminated == b.terminated && a.truncated == b.truncated);
    episodes += ended;
  }
  CHECK(episodes > kEnvs);
  CHECK(a.obs.back() == kUntouched && a.final_obs.back() == kUntouched);
  CHECK(a.rewards.back() == kUntouched && a.terminated.back() == 7 && a.truncated.back() == 7);
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

}  // namespace

int main() {
  threads_agree(ppo::Autoreset::kNextStep);
  threads_agree(ppo::Autoreset::kSameStep);
  sincos_equals_libm();
  return 0;
}
