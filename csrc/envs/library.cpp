#include "envs/library.h"

#include <map>
#include <mutex>
#include <stdexcept>

#include "envs/vector_env.h"
#include "support/shared_library.h"

namespace ppo {
namespace {

std::mutex mutex;

std::map<std::string, const EnvTable*, std::less<>>& loaded() {
  static std::map<std::string, const EnvTable*, std::less<>> tables;
  return tables;
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
