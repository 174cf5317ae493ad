#include "envs/library.h"

#include <map>
#include <mutex>
#include <stdexcept>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include "envs/vector_env.h"

namespace ppo {
namespace {

using GetTable = const EnvTable* (*)();

std::mutex mutex;

std::map<std::string, const EnvTable*, std::less<>>& loaded() {
  static std::map<std::string, const EnvTable*, std::less<>> tables;
  return tables;
}

#if defined(_WIN32)
GetTable open_library(const std::string& path) {
  const HMODULE library = LoadLibraryA(path.c_str());
  if (library == nullptr) throw std::runtime_error("cannot open " + path);
  return reinterpret_cast<GetTable>(GetProcAddress(library, "ppo_fast_env"));
}
#else
GetTable open_library(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  return reinterpret_cast<GetTable>(dlsym(library, "ppo_fast_env"));
}
#endif

}  // namespace

const EnvTable& load_env(const std::string& path) {
  const GetTable get_table = open_library(path);
  if (get_table == nullptr) {
    throw std::runtime_error(path +
                             " holds no environment: PPO_FAST_ENV(Type, id, limit) is missing");
  }
  const EnvTable* table = get_table();
  if (table->abi != kEnvAbi) {
    throw std::runtime_error(path + " was built with headers of another version of ppo_fast (" +
                             std::to_string(table->abi) + ", not " + std::to_string(kEnvAbi) +
                             "); build it again");
  }
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
