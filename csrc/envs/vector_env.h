// A batch of native environments: owns the states, checks and shares out the work of a step to
// threads. Knows environments by their EnvTable only. Not safe for use from two threads at once;
// the binding refuses that (envs/bind.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "ppo_fast/env_table.h"

namespace ppo {

// What an environment threw, as text. All environments of the batch must be reset then.
class EnvThrew : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The built-in environment of that name, or null.
const EnvTable* find_env(std::string_view name);

class VectorEnv {
 public:
  // num_threads: 0 lets the engine decide by the work of a step. max_episode_steps: 0 for no limit.
  VectorEnv(const EnvTable& table, std::ptrdiff_t num_envs, int num_threads, Autoreset autoreset,
            std::int32_t max_episode_steps);

  const EnvTable& table() const { return table_; }
  std::ptrdiff_t num_envs() const { return batch_.num_envs; }
  Autoreset autoreset() const { return batch_.autoreset; }
  // Threads that a step uses.
  int num_threads() const { return num_threads_; }
  // Rough duration of a step on those threads.
  double step_nanoseconds() const;

  // A field of Params. Environments share their Params until one of them is given a value of its
  // own.
  double param(int field, std::ptrdiff_t env) const;
  void set_param(int field, double value);
  void set_param(int field, double value, std::ptrdiff_t env);
  // The Params themselves: one, or where they differ num_envs of them.
  std::span<const std::byte> params() const;

  // Throws EnvThrew, as step does. The first one of an environment that is not built in throws std::runtime_error if its
  // observe does not fit.
  void reset(const ResetRequest& request, const StepOutputs& out);

  // The slots of the next step's actions, num_envs * action_size of them, to be filled before
  // step() is called.
  std::span<std::int32_t> discrete_actions();  // in [0, num_actions)
  std::span<float> continuous_actions();
  // Returns how many episodes ended.
  std::ptrdiff_t step(const StepOutputs& out);

  // The first environment whose episode is over and waits for a reset, or -1.
  std::ptrdiff_t first_over() const;

  // The fields of one environment's State.
  std::vector<double> state_fields(std::ptrdiff_t env) const;
  void load_rng(std::ptrdiff_t env, std::uint64_t words[6]) const;
  void store_rng(std::ptrdiff_t env, const std::uint64_t words[6]);

  // Everything that the future of the batch depends on, as bytes of this build's layout.
  std::span<std::byte> state() { return {tiles_.get(), tiles_bytes_}; }

 private:
  struct AlignedDelete {
    void operator()(std::byte* p) const;
  };
  using AlignedBytes = std::unique_ptr<std::byte[], AlignedDelete>;

  static AlignedBytes allocate(std::size_t bytes);  // zeros
  void reset_into(const ResetRequest& request, const StepOutputs& out);
  const std::byte* params_of(std::ptrdiff_t env) const;

  const EnvTable& table_;
  EnvBatch batch_;
  int num_threads_;
  std::ptrdiff_t num_tiles_;
  std::size_t tiles_bytes_;
  AlignedBytes tiles_;
  AlignedBytes params_;
  AlignedBytes actions_;  // int32 or float, for whole tiles
  bool observes_well_ = false;
};

}  // namespace ppo
