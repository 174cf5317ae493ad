#include "envs/vector_env.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include "envs/builtin.h"
#include "envs/observation_check.h"
#include "ppo_fast/env.h"
#include "support/thread_pool.h"

namespace ppo {
namespace {

constexpr std::align_val_t kTileAlignment{64};

// Handing work to another thread costs a few microseconds, so a step shorter than this stays on
// one.
constexpr double kNanosecondsPerThread = 10'000;

// Ranges of a thread's share, so that other threads can take some.
constexpr int kPieces = 8;

int useful_threads(const EnvTable& table, std::ptrdiff_t num_envs) {
  const double work = table.step_nanoseconds * static_cast<double>(num_envs);
  const int pays = 1 + static_cast<int>(std::min(work / kNanosecondsPerThread, 1e6));
  return std::min(pays, hardware_threads());
}

std::ptrdiff_t checked(const EnvTable& table, std::ptrdiff_t result, const EnvError& error) {
  if (result != kEnvThrew) return result;
  throw EnvThrew(std::string(table.name) + " threw: " + error.text +
                 "; reset all environments before the next step");
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

VectorEnv::AlignedBytes VectorEnv::allocate(std::size_t bytes) {
  AlignedBytes memory(static_cast<std::byte*>(::operator new[](bytes, kTileAlignment)));
  std::memset(memory.get(), 0, bytes);
  return memory;
}

VectorEnv::VectorEnv(const EnvTable& table, std::ptrdiff_t num_envs, int num_threads,
                     Autoreset autoreset, std::int32_t max_episode_steps)
    : table_(table),
      num_threads_(num_threads > 0 ? num_threads : useful_threads(table, num_envs)),
      num_tiles_((num_envs + kTile - 1) / kTile),
      tiles_bytes_(static_cast<std::size_t>(num_tiles_) * table.tile_bytes),
      tiles_(allocate(tiles_bytes_)),
      params_(allocate(table.params.bytes)),
      actions_(allocate(static_cast<std::size_t>(num_tiles_ * kTile * table.action_size) * 4)) {
  for (std::ptrdiff_t t = 0; t < num_tiles_; ++t) {
    table_.init_tile(tiles_.get() + static_cast<std::size_t>(t) * table.tile_bytes);
  }
  table_.params.init(params_.get());
  observes_well_ = find_env(table.name) == &table;
  batch_.tiles = tiles_.get();
  batch_.num_envs = num_envs;
  batch_.params = params_.get();
  batch_.autoreset = autoreset;
  batch_.max_episode_steps =
      max_episode_steps > 0 ? max_episode_steps : std::numeric_limits<std::int32_t>::max();
}

double VectorEnv::step_nanoseconds() const {
  return table_.step_nanoseconds * static_cast<double>(num_envs()) / num_threads_;
}

const std::byte* VectorEnv::params_of(std::ptrdiff_t env) const {
  return params_.get() + static_cast<std::size_t>(env) * batch_.params_stride;
}

double VectorEnv::param(int field, std::ptrdiff_t env) const {
  return table_.params.get(params_of(env), field);
}

void VectorEnv::set_param(int field, double value) {
  const std::ptrdiff_t count = batch_.params_stride == 0 ? 1 : num_envs();
  for (std::ptrdiff_t env = 0; env < count; ++env) {
    table_.params.set(const_cast<std::byte*>(params_of(env)), field, value);
  }
}

void VectorEnv::set_param(int field, double value, std::ptrdiff_t env) {
  if (batch_.params_stride == 0) {
    const std::size_t bytes = table_.params.bytes;
    AlignedBytes own = allocate(static_cast<std::size_t>(num_envs()) * bytes);
    for (std::ptrdiff_t i = 0; i < num_envs(); ++i) {
      std::memcpy(own.get() + static_cast<std::size_t>(i) * bytes, params_.get(), bytes);
    }
    params_ = std::move(own);
    batch_.params = params_.get();
    batch_.params_stride = bytes;
  }
  table_.params.set(const_cast<std::byte*>(params_of(env)), field, value);
}

std::span<const std::byte> VectorEnv::params() const {
  const std::size_t count = batch_.params_stride == 0 ? 1 : static_cast<std::size_t>(num_envs());
  return {params_.get(), count * table_.params.bytes};
}

void VectorEnv::reset(const ResetRequest& request, const StepOutputs& out) {
  if (observes_well_) return reset_into(request, out);
  ObservationCheck check(table_, num_envs());
  reset_into(request, check.outputs());
  check.require(batch_);
  check.copy_to(out, num_envs());
  observes_well_ = true;
}

void VectorEnv::reset_into(const ResetRequest& request, const StepOutputs& out) {
  const auto reset_tiles = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    EnvError error;
    checked(table_, table_.reset(batch_, request, out, begin, end, &error), error);
  };
  parallel_for(0, num_tiles_, num_threads_, reset_tiles, kPieces);
}

std::span<std::int32_t> VectorEnv::discrete_actions() {
  return {reinterpret_cast<std::int32_t*>(actions_.get()), static_cast<std::size_t>(num_envs())};
}

std::span<float> VectorEnv::continuous_actions() {
  return {reinterpret_cast<float*>(actions_.get()),
          static_cast<std::size_t>(num_envs() * table_.action_size)};
}

std::ptrdiff_t VectorEnv::step(const StepOutputs& out) {
  std::atomic<std::ptrdiff_t> ended{0};
  const auto step_tiles = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    EnvError error;
    ended += checked(table_, table_.step(batch_, actions_.get(), out, begin, end, &error), error);
  };
  parallel_for(0, num_tiles_, num_threads_, step_tiles, kPieces);
  return ended;
}

std::ptrdiff_t VectorEnv::first_over() const {
  for (std::ptrdiff_t i = 0; i < num_envs(); ++i) {
    if (table_.is_over(batch_, i)) return i;
  }
  return -1;
}

std::vector<double> VectorEnv::state_fields(std::ptrdiff_t env) const {
  const AlignedBytes state = allocate(table_.state.bytes);
  table_.load_state(batch_, env, state.get());
  std::vector<double> values;
  for (int i = 0; i < table_.state.count; ++i) {
    values.push_back(table_.state.get(state.get(), i));
  }
  return values;
}

void VectorEnv::load_rng(std::ptrdiff_t env, std::uint64_t words[6]) const {
  table_.load_rng(batch_, env, words);
}

void VectorEnv::store_rng(std::ptrdiff_t env, const std::uint64_t words[6]) {
  table_.store_rng(batch_, env, words);
}

}  // namespace ppo
