// What one dimension of a product of independent distributions adds to a sample's terms, with
// derivatives with respect to the dimension's first and second parameter.
#pragma once

#include "ppo_fast/host_device.h"

namespace ppo::inline PPO_ISA {

template <typename T>
struct Terms {
  T logp;
  T entropy;
  T logp_first, logp_second;
  T entropy_first, entropy_second;
};

// A value with derivatives with respect to the first and second parameter; of KL(old || new) those
// of the new ones.
template <typename T>
struct Slope {
  T value;
  T first, second;
};

// p log p, with the limit 0 at p = 0.
template <typename T>
PPO_HD T p_log_p(T p, T log_p) {
  return p == T(0) ? T(0) : p * log_p;
}

}  // namespace ppo::inline PPO_ISA
