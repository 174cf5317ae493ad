// The built-in environments, one table per instruction set.
#pragma once

#include "ppo_fast/env_table.h"
#include "support/isa.h"

namespace ppo {

// Ended by a null pointer.
struct EnvTables {
  const EnvTable* const* begin;
};
PPO_DECLARE_ISA_TABLE(EnvTables, env_tables)

}  // namespace ppo
