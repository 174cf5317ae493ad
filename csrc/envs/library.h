// Environments in shared libraries: user code that was built against ppo_fast/env.h.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "ppo_fast/env_table.h"

namespace ppo {

// Opens a library made with PPO_FAST_ENV and keeps it open. A later one of the same name takes its
// place for environments that are made from then on. Throws std::runtime_error.
const EnvTable& load_env(const std::string& path);

inline void require_same_abi(const std::string& path, const EnvTable& table) {
  if (table.abi == kEnvAbi) return;
  throw std::runtime_error(path + " was built with headers of another version of ppo_fast (" +
                           std::to_string(table.abi) + ", not " + std::to_string(kEnvAbi) +
                           "); build it again");
}

// The environment of that name among those, or null.
const EnvTable* find_loaded_env(std::string_view name);

}  // namespace ppo
