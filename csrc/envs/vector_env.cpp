#include "envs/vector_env.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <new>

#include "ppo_fast/env.h"
#include "support/thread_pool.h"

namespace ppo {
namespace {

constexpr std::align_val_t kTileAlignment{64};

// Handing work to another thread costs a few microseconds, so a step shorter than this stays on
// one.
constexpr double kNanosecondsPerThread = 10'000;

int useful_threads(const EnvTable& table, std::ptrdiff_t num_envs) {
  const double work = table.step_nanoseconds * static_cast<double>(num_envs);
  const int pays = 1 + static_cast<int>(work / kNanosecondsPerThread);
  return std::min(pays, hardware_threads());
}

}  // namespace

const EnvTable* find_env(std::string_view name) {
  const EnvTable* const* tables = PPO_SELECT_ISA(env_tables).begin;
  for (; *tables != nullptr; ++tables) {
    if (name == (*tables)->name) return *tables;
  }
  return nullptr;
}

void VectorEnv::AlignedDelete::operator()(std::byte* p) const {
  ::operator delete[](p, kTileAlignment);
}

VectorEnv::VectorEnv(const EnvTable& table, std::ptrdiff_t num_envs, int num_threads,
                     Autoreset autoreset, std::int32_t max_episode_steps)
    : table_(table),
      num_threads_(num_threads > 0 ? num_threads : useful_threads(table, num_envs)),
      num_tiles_((num_envs + kTile - 1) / kTile),
      tiles_bytes_(static_cast<std::size_t>(num_tiles_) * table.tile_bytes),
      tiles_(static_cast<std::byte*>(::operator new[](tiles_bytes_, kTileAlignment))),
      params_(new std::byte[table.params_bytes]),
      actions_(static_cast<std::size_t>(num_tiles_ * kTile), 0) {
  for (std::ptrdiff_t t = 0; t < num_tiles_; ++t) {
    table_.init_tile(tiles_.get() + static_cast<std::size_t>(t) * table.tile_bytes);
  }
  table_.init_params(params_.get());
  batch_ = {tiles_.get(), num_envs, params_.get(), autoreset,
            max_episode_steps > 0 ? max_episode_steps : std::numeric_limits<std::int32_t>::max()};
}

double VectorEnv::step_nanoseconds() const {
  return table_.step_nanoseconds * static_cast<double>(num_envs()) / num_threads_;
}

void VectorEnv::set_param(const EnvField& field, bool value) {
  std::memcpy(params_.get() + field.offset, &value, sizeof(value));
}

void VectorEnv::reset(const ResetRequest& request, const StepOutputs& out) {
  parallel_for(0, num_tiles_, num_threads_, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    table_.reset(batch_, request, out, begin, end);
  });
}

std::ptrdiff_t VectorEnv::step(const StepOutputs& out) {
  std::atomic<std::ptrdiff_t> ended{0};
  parallel_for(0, num_tiles_, num_threads_, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    ended += table_.step(batch_, actions_.data(), out, begin, end);
  });
  return ended;
}

std::ptrdiff_t VectorEnv::first_over() const {
  for (std::ptrdiff_t i = 0; i < num_envs(); ++i) {
    if (table_.is_over(batch_, i)) return i;
  }
  return -1;
}

}  // namespace ppo
