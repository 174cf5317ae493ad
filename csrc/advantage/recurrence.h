// The recurrence over a tile: `steps` rows of `columns` independent columns, the last row first.
#pragma once

#include <cstddef>

#include "advantage/formula.h"
#include "advantage/runs.h"

namespace ppo::inline PPO_ISA {

// advantage has steps + 1 rows; the last one holds what is carried in and is only read.
template <std::ptrdiff_t kColumns, typename T>
PPO_HD void recur_columns(const T* __restrict delta, const T* __restrict coefficient,
                          T* __restrict advantage, std::ptrdiff_t steps) {
  T carry[kColumns];
  for (std::ptrdiff_t n = 0; n < kColumns; ++n) carry[n] = advantage[steps * kColumns + n];
  for (std::ptrdiff_t i = (steps - 1) * kColumns; i >= 0; i -= kColumns) {
    for (std::ptrdiff_t n = 0; n < kColumns; ++n) {
      carry[n] = recurrence(delta[i + n], coefficient[i + n], carry[n]);
      advantage[i + n] = carry[n];
    }
  }
}

template <typename T>
void recur(const T* __restrict delta, const T* __restrict coefficient, T* advantage,
           std::ptrdiff_t steps, std::ptrdiff_t columns) {
  switch (columns) {  // narrow ones keep the carry in registers
    case 1: return recur_columns<1>(delta, coefficient, advantage, steps);
    case 2: return recur_columns<2>(delta, coefficient, advantage, steps);
    case 4: return recur_columns<4>(delta, coefficient, advantage, steps);
    case 8: return recur_columns<8>(delta, coefficient, advantage, steps);
    case kLanes: return recur_columns<kLanes>(delta, coefficient, advantage, steps);
    default: break;
  }
  for (std::ptrdiff_t i = (steps - 1) * columns; i >= 0; i -= columns) {
    const T* __restrict next = advantage + i + columns;
    T* __restrict row = advantage + i;
    for (std::ptrdiff_t n = 0; n < columns; ++n) {
      row[n] = recurrence(delta[i + n], coefficient[i + n], next[n]);
    }
  }
}

// What a stretch of time hands on of what is carried into it. A coefficient of zero, by underflow,
// cuts as well.
template <typename T>
PPO_HD T carried_out(const Summary<T>& stretch, T carry) {
  return stretch.c <= T(0) ? stretch.b : stretch.b + stretch.c * carry;
}

// Summaries of kLanes segments of kLaneSteps each; tiles are [kLaneSteps, kLanes].
template <typename T>
PPO_HD void summarize_lanes(const T* __restrict delta, const T* __restrict coefficient,
                            Summary<T>* __restrict summaries) {
  T b[kLanes];
  T c[kLanes];
  for (std::ptrdiff_t l = 0; l < kLanes; ++l) {
    b[l] = T(0);
    c[l] = T(1);
  }
  for (std::ptrdiff_t i = (kLaneSteps - 1) * kLanes; i >= 0; i -= kLanes) {
    for (std::ptrdiff_t l = 0; l < kLanes; ++l) {
      b[l] = recurrence(delta[i + l], coefficient[i + l], b[l]);
      c[l] = chained(coefficient[i + l], c[l]);
    }
  }
  for (std::ptrdiff_t l = 0; l < kLanes; ++l) summaries[l] = {b[l], c[l]};
}

}  // namespace ppo::inline PPO_ISA
