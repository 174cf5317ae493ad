// One environment type as a table of plain functions: what the engine knows of an environment. The
// functions are made by env_loop.h, for the built-in environments once per instruction set, for a
// user's environment in a shared library of its own. A call works on a range of tiles, so the
// indirection costs nothing per step.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ppo {

// Changes with every change of this file: a library that was built with another one is refused.
inline constexpr int kEnvAbi = 2;

enum class Autoreset : int { kNextStep = 0, kSameStep = 1, kDisabled = 2 };

enum class ScalarType : int { kFloat32 = 0, kFloat64 = 1, kUint8 = 2, kInt32 = 3 };

enum class FieldType : int { kBool = 0, kInt = 1, kDouble = 2, kChoice = 3 };

// A named member of Params, Options or State; its value travels as a double.
struct EnvField {
  const char* name;
  FieldType type;
  const char* choices;  // of kChoice: texts joined by |, whose places are the values
};

// The fields of a plain struct of `bytes` bytes.
struct EnvFields {
  std::size_t bytes;
  int count;
  EnvField (*describe)(int field);
  void (*init)(void* object);  // default values
  double (*get)(const void* object, int field);
  void (*set)(void* object, int field, double value);
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
  double* episode_returns = nullptr;  // [num_envs], or null; written only where an episode ended
  std::int64_t* episode_lengths = nullptr;
};

// What the functions below work on: a batch of environments in tiles of kTile.
struct EnvBatch {
  void* tiles = nullptr;
  std::ptrdiff_t num_envs = 0;
  const void* params = nullptr;
  std::size_t params_stride = 0;  // bytes from one environment's to the next one's; 0: shared
  Autoreset autoreset = Autoreset::kNextStep;
  std::int32_t max_episode_steps = 0;  // INT32_MAX for no limit
};

struct ResetRequest {
  const std::uint64_t* seeds = nullptr;    // [num_envs, 4] words of SeedSequence
  const std::uint8_t* reseed = nullptr;    // [num_envs]: draw from `seeds` instead of going on
  const std::uint8_t* selected = nullptr;  // [num_envs]: environments to reset
  const void* options = nullptr;           // an Options of the environment
};

// What an environment threw.
struct EnvError {
  char text[256];
};
inline constexpr std::ptrdiff_t kEnvThrew = -1;

struct EnvTable {
  int abi;
  const char* name;
  std::int32_t max_episode_steps;  // 0: no limit
  double reward_threshold;         // NaN: none
  double step_nanoseconds;
  std::size_t tile_bytes;

  ScalarType obs_type;
  int obs_ndim;
  const std::int64_t* obs_shape;
  std::int64_t obs_size;
  double obs_low;
  double obs_high;

  int num_actions;  // actions are indices below it; 0: they are action_size floats
  int action_size;
  double action_low;
  double action_high;

  EnvFields params;
  EnvFields options;
  EnvFields state;

  void (*init_tile)(void* tile);
  // Tiles [begin, end): resets the selected environments, then writes all observations. Returns 0,
  // or kEnvThrew.
  std::ptrdiff_t (*reset)(const EnvBatch&, const ResetRequest&, const StepOutputs&,
                          std::ptrdiff_t begin, std::ptrdiff_t end, EnvError*);
  // Tiles [begin, end): one step with actions[env], int32 or float [action_size]. Returns how many
  // episodes ended, or kEnvThrew.
  std::ptrdiff_t (*step)(const EnvBatch&, const void* actions, const StepOutputs&,
                         std::ptrdiff_t begin, std::ptrdiff_t end, EnvError*);
  // Whether an environment's episode has ended without a reset since.
  bool (*is_over)(const EnvBatch&, std::ptrdiff_t env);
  // One environment's State, and its generator (Pcg64::save).
  void (*load_state)(const EnvBatch&, std::ptrdiff_t env, void* state);
  void (*load_rng)(const EnvBatch&, std::ptrdiff_t env, std::uint64_t words[6]);
  void (*store_rng)(const EnvBatch&, std::ptrdiff_t env, const std::uint64_t words[6]);
};

// Actions in the memory of a device: tensors hold indices in 64 bits more often than in 32.
enum class ActionType : int { kInt32 = 0, kInt64 = 1, kFloat32 = 2 };

// The same environment on a CUDA device (env_cuda.h).
struct CudaEnvTable {
  const EnvTable* env;
  // One step of all environments, on a stream. All memory is the device's; nothing is waited for. Returns a
  // cudaError_t.
  int (*step)(const EnvBatch&, const void* actions, ActionType type, const StepOutputs&,
              void* stream);
};

}  // namespace ppo
