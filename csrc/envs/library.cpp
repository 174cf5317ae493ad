#include "envs/library.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "envs/vector_env.h"
#include "support/shared_library.h"

namespace ppo {
namespace {

std::mutex mutex;

std::map<std::string, const EnvTable*, std::less<>>& loaded() {
  static std::map<std::string, const EnvTable*, std::less<>> tables;
  return tables;
}

std::size_t scalar_size(ScalarType type) {
  switch (type) {
    case ScalarType::kFloat32:
    case ScalarType::kInt32:
      return 4;
    case ScalarType::kFloat64:
      return 8;
    case ScalarType::kUint8:
      return 1;
  }
  return 0;
}

// The bytes of a first observation, between others; all of them are `fill` before.
std::vector<unsigned char> observation_among(const EnvTable& table, std::size_t before,
                                             std::size_t bytes, unsigned char fill) {
  std::vector<unsigned char> memory(2 * before + bytes, fill);
  std::vector<std::max_align_t> tile(table.tile_bytes / sizeof(std::max_align_t) + 8);
  std::vector<std::max_align_t> params(table.params.bytes / sizeof(std::max_align_t) + 1);
  std::vector<std::max_align_t> options(table.options.bytes / sizeof(std::max_align_t) + 1);
  void* aligned = tile.data();
  std::size_t space = tile.size() * sizeof(std::max_align_t);
  std::align(64, table.tile_bytes, aligned, space);
  table.init_tile(aligned);
  table.params.init(params.data());
  table.options.init(options.data());
  EnvBatch batch;
  batch.tiles = aligned;
  batch.num_envs = 1;
  batch.params = params.data();
  batch.max_episode_steps = std::numeric_limits<std::int32_t>::max();
  const std::uint64_t seeds[4] = {1, 2, 3, 4};
  const std::uint8_t yes = 1;
  const ResetRequest request = {seeds, &yes, &yes, options.data()};
  StepOutputs out;
  out.obs = memory.data() + before;
  out.obs_stride = table.obs_size;
  EnvError error;
  if (table.reset(batch, request, out, 0, 1, &error) == kEnvThrew) memory.clear();
  return memory;
}

// What `observe` writes is what Observation says: no item less, and none more, as far as that is near. Of an environment
// that throws at a first reset nothing is known.
void require_observation(const EnvTable& table) {
  constexpr std::size_t kBefore = 1 << 16;
  const std::size_t item = scalar_size(table.obs_type);
  const std::size_t bytes = item * static_cast<std::size_t>(table.obs_size);
  const auto one = observation_among(table, kBefore, bytes, 0xa5);
  const auto other = observation_among(table, kBefore, bytes, 0x5a);
  if (one.empty() || other.empty()) return;
  // Left as it was, both times.
  const auto is_left = [&](std::size_t i) { return one[i] == 0xa5 && other[i] == 0x5a; };
  const std::string size = std::to_string(table.obs_size);
  for (std::size_t i = 0; i < one.size(); ++i) {
    const bool is_inside = i >= kBefore && i < kBefore + bytes;
    if (is_inside || is_left(i)) continue;
    throw std::runtime_error(std::string(table.name) + ": observe writes outside of its " + size +
                             " numbers; let Observation have as many as it writes");
  }
  for (std::size_t k = 0; k < static_cast<std::size_t>(table.obs_size); ++k) {
    bool left = true;
    for (std::size_t i = 0; i < item; ++i) left = left && is_left(kBefore + k * item + i);
    if (!left) continue;
    throw std::runtime_error(std::string(table.name) + ": observe does not write number " +
                             std::to_string(k) + " of its " + size +
                             "; write all that Observation has");
  }
}

}  // namespace

const EnvTable& load_env(const std::string& path) {
  const auto get_table = library_function<const EnvTable*()>(path, "ppo_fast_env");
  if (get_table == nullptr) {
    throw std::runtime_error(path +
                             " holds no environment: PPO_FAST_ENV(Type, id, limit) is missing");
  }
  const EnvTable* table = get_table();
  require_same_abi(path, *table);
  if (find_env(table->name) != nullptr) {
    throw std::runtime_error(
        std::string(table->name) +
        " is the id of a built-in environment; choose another one in PPO_FAST_ENV");
  }
  require_observation(*table);
  const std::lock_guard<std::mutex> lock(mutex);
  loaded()[table->name] = table;
  return *table;
}

const EnvTable* find_loaded_env(std::string_view name) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = loaded().find(name);
  return found == loaded().end() ? nullptr : found->second;
}

}  // namespace ppo
