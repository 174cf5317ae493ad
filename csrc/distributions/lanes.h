// Groups of samples, one sample per vector lane, and sums over samples that depend neither on the
// instruction set nor on how the compiler vectorises: a part per lane in double, added up in lane
// order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "distributions/distribution.h"
#include "ppo_fast/host_device.h"
#include "support/transpose.h"
#include "support/view.h"

namespace ppo::inline PPO_ISA {

inline constexpr int kLanes = kLossLanes;

// A value per lane.
template <typename T>
struct alignas(64) Lane {
  T x[kLanes];

  PPO_HD T& operator[](int l) { return x[l]; }
  PPO_HD const T& operator[](int l) const { return x[l]; }
};

// Samples first .. first + size - 1. A lane without a sample of its own, or whose sample does not
// count, repeats another one: its results are computed and dropped.
struct Group {
  std::ptrdiff_t first;
  int size;
  std::ptrdiff_t row[kLanes];
  bool counts[kLanes];
  bool contiguous;  // the rows are kLanes neighbours
};

// The group of samples from `first` on, all of which count.
PPO_HD Group whole_group(std::ptrdiff_t first, std::ptrdiff_t batch) {
  Group g;
  g.first = first;
  g.size = batch - first < kLanes ? static_cast<int>(batch - first) : kLanes;
  g.contiguous = g.size == kLanes;
  for (int l = 0; l < kLanes; ++l) {
    g.counts[l] = l < g.size;
    g.row[l] = first + (l < g.size ? l : g.size - 1);
  }
  return g;
}

// The first sample of the group whose lane is 0, or -1.
PPO_HD std::ptrdiff_t first_impossible(const Group& g, const Lane<int>& possible) {
  int all = 1;
  for (int l = 0; l < kLanes; ++l) all &= possible[l];
  if (all != 0) return -1;
  int l = 0;
  while (possible[l] != 0) ++l;
  return g.row[l];
}

// A sum over samples.
struct LaneSum {
  Lane<double> part = {};

  // Selects: what does not count may be NaN.
  template <typename T>
  PPO_HD void add(const Lane<double>& weight, const Lane<T>& term) {
    for (int l = 0; l < kLanes; ++l) {
      const double weighted = weight[l] * static_cast<double>(term[l]);
      part[l] += weight[l] != 0.0 ? weighted : 0.0;
    }
  }
  double total() const {
    double sum = 0;
    for (double p : part.x) sum += p;
    return sum;
  }
};

// Hands out pieces of the scratch memory of a call.
class Scratch {
 public:
  PPO_HD explicit Scratch(void* memory) : next_(static_cast<char*>(memory)) {}

  template <typename T>
  PPO_HD Lane<T>* rows(std::ptrdiff_t count) {
    Lane<T>* result = reinterpret_cast<Lane<T>*>(next_);
    next_ += count * static_cast<std::ptrdiff_t>(sizeof(Lane<T>));
    return result;
  }

 private:
  char* next_;
};

// weight * derivative, where a derivative without weight may be infinite.
template <typename T>
PPO_HD T weighted(T weight, T derivative) {
  return weight == T(0) ? T(0) : weight * derivative;
}

// The elements of a column [B] that belong to the group.
template <typename T>
PPO_HD Lane<std::remove_const_t<T>> load_lane(const Group& g, const View1<T>& from) {
  Lane<std::remove_const_t<T>> result;
  T* start = from.data + g.first * from.stride;
  if (g.contiguous && from.stride == 1) {
    for (int l = 0; l < kLanes; ++l) result[l] = start[l];
  } else if (g.contiguous) {
    for (int l = 0; l < kLanes; ++l) result[l] = start[l * from.stride];
  } else {
    for (int l = 0; l < kLanes; ++l) result[l] = from[g.row[l]];
  }
  return result;
}

// Rows [B, columns] of the group, a lane per sample.
template <typename T>
PPO_HD void load_rows(const Group& g, std::ptrdiff_t columns, const View2<const T>& from,
                      Lane<T>* out) {
  if constexpr (std::is_floating_point_v<T>) {
    if (g.contiguous && from.stride_n == 1) {
      transpose(from.data + g.first * from.stride_t, from.stride_t, kLanes, columns, out->x,
                kLanes);
      return;
    }
  }
  for (std::ptrdiff_t k = 0; k < columns; ++k) {
    out[k] = load_lane(g, View1<const T>{from.data + k * from.stride_n, from.stride_t});
  }
}

// Back to rows [B, columns] of a result; 0 where samples do not count.
template <typename T>
PPO_HD void store_rows(const Group& g, std::ptrdiff_t columns, const Lane<T>* from, T* out) {
  T* to = out + g.first * columns;
  if (g.contiguous) {
    transpose(from->x, kLanes, columns, kLanes, to, columns);
    return;
  }
  for (std::ptrdiff_t k = 0; k < columns; ++k) {
    for (int l = 0; l < g.size; ++l) to[l * columns + k] = g.counts[l] ? from[k][l] : T(0);
  }
}

}  // namespace ppo::inline PPO_ISA
