// Params and Options of an environment that is known by its table alone.
#pragma once

#include <cstddef>
#include <vector>

#include "ppo_fast/env_table.h"

namespace ppo {

// Memory that holds an object of these fields with its default values.
inline std::vector<std::max_align_t> default_object(const EnvFields& fields) {
  std::vector<std::max_align_t> memory(fields.bytes / sizeof(std::max_align_t) + 1);
  fields.init(memory.data());
  return memory;
}

}  // namespace ppo
