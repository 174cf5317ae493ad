// A batch of native environments: owns the states, checks and shares out the work of a step to
// threads. Knows environments by their EnvTable only. Not safe for use from two threads at once;
// the binding refuses that (envs/bind.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "envs/table.h"

namespace ppo {

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

  void set_param(const EnvField& field, bool value);

  void reset(const ResetRequest& request, const StepOutputs& out);

  // A slot per environment for the actions of the next step, to be filled with values in
  // [0, num_actions) before step() is called.
  std::span<std::int32_t> actions() {
    return {actions_.data(), static_cast<std::size_t>(num_envs())};
  }
  // Returns how many episodes ended.
  std::ptrdiff_t step(const StepOutputs& out);

  // The first environment whose episode is over and waits for a reset, or -1.
  std::ptrdiff_t first_over() const;

  // Everything that the future of the batch depends on, as bytes of this build's layout.
  std::span<std::byte> state() { return {tiles_.get(), tiles_bytes_}; }

 private:
  struct AlignedDelete {
    void operator()(std::byte* p) const;
  };

  const EnvTable& table_;
  EnvBatch batch_;
  int num_threads_;
  std::ptrdiff_t num_tiles_;
  std::size_t tiles_bytes_;
  std::unique_ptr<std::byte[], AlignedDelete> tiles_;
  std::unique_ptr<std::byte[]> params_;
  std::vector<std::int32_t> actions_;
};

}  // namespace ppo
