// One environment type as a table of plain functions: what the engine (vector_env.h) knows of an
// environment. A call works on a range of tiles, so the indirection costs nothing per step. The
// functions are made by envs/loop.h, once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "support/isa.h"

namespace ppo {

enum class Autoreset : int { kNextStep = 0, kSameStep = 1, kDisabled = 2 };

// A keyword argument of the environment, by its place in Params.
struct EnvField {
  const char* name;
  std::size_t offset;  // of a bool
};

// Where a step writes. Strides count elements; row i belongs to environment i of the batch.
struct StepOutputs {
  void* obs = nullptr;  // [num_envs, obs_size] of the environment's own scalar
  std::ptrdiff_t obs_stride = 0;
  void* rewards = nullptr;
  std::ptrdiff_t rewards_stride = 1;
  bool rewards_are_float32 = false;  // else float64
  bool* terminated = nullptr;
  std::ptrdiff_t terminated_stride = 1;
  bool* truncated = nullptr;
  std::ptrdiff_t truncated_stride = 1;
  void* final_obs = nullptr;  // as obs, or null; rows are written only where an episode ended
  std::ptrdiff_t final_obs_stride = 0;
};

// What the functions below work on: a batch of environments in tiles of kTile.
struct EnvBatch {
  void* tiles = nullptr;
  std::ptrdiff_t num_envs = 0;
  const void* params = nullptr;
  Autoreset autoreset = Autoreset::kNextStep;
  std::int32_t max_episode_steps = 0;  // INT32_MAX for no limit
};

struct ResetRequest {
  const std::uint64_t* seeds = nullptr;    // [num_envs, 4] words of SeedSequence
  const std::uint8_t* reseed = nullptr;    // [num_envs]: draw from `seeds` instead of going on
  const std::uint8_t* selected = nullptr;  // [num_envs]: environments to reset
  double low = 0;
  double high = 0;
};

struct EnvTable {
  const char* name;
  std::size_t tile_bytes;
  std::size_t params_bytes;
  const EnvField* fields;
  int num_fields;
  int obs_size;
  bool obs_is_float32;  // else float64
  int num_actions;
  double reset_low;
  double reset_high;
  double step_nanoseconds;

  void (*init_params)(void* params);
  void (*init_tile)(void* tile);
  // Tiles [begin, end): resets the selected environments, then writes all observations.
  void (*reset)(const EnvBatch&, const ResetRequest&, const StepOutputs&, std::ptrdiff_t begin,
                std::ptrdiff_t end);
  // Tiles [begin, end): one step with actions[env]; returns how many episodes ended.
  std::ptrdiff_t (*step)(const EnvBatch&, const std::int32_t* actions, const StepOutputs&,
                         std::ptrdiff_t begin, std::ptrdiff_t end);
  // Whether an environment's episode has ended without a reset since.
  bool (*is_over)(const EnvBatch&, std::ptrdiff_t env);
};

// Tables of the built-in environments, ended by a null pointer.
struct EnvTables {
  const EnvTable* const* begin;
};
PPO_DECLARE_ISA_TABLE(EnvTables, env_tables)

}  // namespace ppo
