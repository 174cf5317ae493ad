// What the scalars of an environment's table are called in arrays.
#pragma once

#include <cstdint>

#include "ppo_fast/env_table.h"
#include "support/given.h"

namespace ppo {

inline bool has_type(const arrays::Array& array, ScalarType type) {
  switch (type) {
    case ScalarType::kFloat32:
      return array.holds<float>();
    case ScalarType::kFloat64:
      return array.holds<double>();
    case ScalarType::kUint8:
      return array.holds<std::uint8_t>();
    case ScalarType::kInt32:
      return array.holds<std::int32_t>();
  }
  return false;
}

}  // namespace ppo
