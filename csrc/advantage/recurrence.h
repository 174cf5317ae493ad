// The recurrence over a tile: `steps` rows of `columns` independent columns, the last row first.
#pragma once

#include <cstddef>

#include "advantage/formula.h"
#include "advantage/runs.h"
#include "support/vector.h"

namespace ppo::inline PPO_ISA {

// advantage has steps + 1 rows; the last one holds what is carried in and is only read.
template <std::ptrdiff_t kColumns, typename T>
PPO_HD void recur_columns(const T* __restrict delta, const T* __restrict coefficient,
                          T* __restrict advantage, std::ptrdiff_t steps) {
  T carry[kColumns];
  for (std::ptrdiff_t n = 0; n < kColumns; ++n) carry[n] = advantage[steps * kColumns + n];
  for (std::ptrdiff_t i = (steps - 1) * kColumns; i >= 0; i -= kColumns) {
    for (std::ptrdiff_t n = 0; n < kColumns; ++n) {
      recur(delta[i + n], coefficient[i + n], carry[n]);
      advantage[i + n] = carry[n];
    }
  }
}

// The same of kLanes columns.
template <typename T>
PPO_HD void recur_lanes(const T* __restrict delta, const T* __restrict coefficient,
                        T* __restrict advantage, std::ptrdiff_t steps) {
  constexpr std::ptrdiff_t kSize = kVectorSize<T>;
  Vector<T> carry[kLanes / kSize];
  for (std::ptrdiff_t k = 0; k < kLanes / kSize; ++k) {
    carry[k] = load(advantage + steps * kLanes + k * kSize);
  }
  for (std::ptrdiff_t i = (steps - 1) * kLanes; i >= 0; i -= kLanes) {
    for (std::ptrdiff_t k = 0; k < kLanes / kSize; ++k) {
      const std::ptrdiff_t at_lane = i + k * kSize;
      recur(load(delta + at_lane), load(coefficient + at_lane), carry[k]);
      at(advantage + at_lane) = carry[k];
    }
  }
}

template <typename T>
void recur_tile(const T* __restrict delta, const T* __restrict coefficient, T* advantage,
                std::ptrdiff_t steps, std::ptrdiff_t columns) {
  switch (columns) {  // narrow ones keep the carry in registers
    case 1:
      return recur_columns<1>(delta, coefficient, advantage, steps);
    case 2:
      return recur_columns<2>(delta, coefficient, advantage, steps);
    case 4:
      return recur_columns<4>(delta, coefficient, advantage, steps);
    case 8:
      return recur_columns<8>(delta, coefficient, advantage, steps);
    case kLanes:
      return recur_lanes(delta, coefficient, advantage, steps);
    default:
      break;
  }
  for (std::ptrdiff_t i = (steps - 1) * columns; i >= 0; i -= columns) {
    const T* __restrict next = advantage + i + columns;
    T* __restrict row = advantage + i;
    for (std::ptrdiff_t n = 0; n < columns; ++n) {
      T carry = next[n];
      recur(delta[i + n], coefficient[i + n], carry);
      row[n] = carry;
    }
  }
}

// Summaries of kLanes segments of kLaneSteps each; tiles are [kLaneSteps, kLanes]. Products of
// coefficients are formed in double: in float they are off by the same amount in every segment,
// which adds up over a long row.
template <typename T>
PPO_HD void summarize_lanes(const T* __restrict delta, const T* __restrict coefficient,
                            Summary* __restrict summaries) {
  constexpr std::ptrdiff_t kSize = kVectorSize<T>;
  constexpr std::ptrdiff_t kDoubles = kVectorSize<double>;
  const Vector<double> zero = {};
  Vector<T> b[kLanes / kSize] = {};
  Vector<double> c[kLanes / kDoubles];
  for (auto& x : c) x = zero + 1.0;
  for (std::ptrdiff_t i = (kLaneSteps - 1) * kLanes; i >= 0; i -= kLanes) {
    for (std::ptrdiff_t k = 0; k < kLanes / kSize; ++k) {
      recur(load(delta + i + k * kSize), load(coefficient + i + k * kSize), b[k]);
    }
    for (std::ptrdiff_t k = 0; k < kLanes / kDoubles; ++k) {
      const Vector<double> here = load_double(coefficient + i + k * kDoubles);
      const Vector<double> product = c[k] * here;
      c[k] = here < zero ? zero : product;
    }
  }
  T lanes_b[kLanes];
  double lanes_c[kLanes];
  for (std::ptrdiff_t k = 0; k < kLanes / kSize; ++k) at(lanes_b + k * kSize) = b[k];
  for (std::ptrdiff_t k = 0; k < kLanes / kDoubles; ++k) at(lanes_c + k * kDoubles) = c[k];
  for (std::ptrdiff_t l = 0; l < kLanes; ++l) {
    summaries[l] = {static_cast<double>(lanes_b[l]), lanes_c[l]};
  }
}

}  // namespace ppo::inline PPO_ISA
