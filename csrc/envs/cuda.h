// The environments that run on a CUDA device.
#pragma once

#include <string_view>

#include "ppo_fast/env_table.h"

namespace ppo {

struct CudaEnvTable;

// The built-in environment of that name, or null.
const CudaEnvTable* find_cuda_env(std::string_view name);

}  // namespace ppo
