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

// On a GPU a thread is one of the kLossLanes lanes: it sees a group of its own sample alone.
#ifndef PPO_LANES
#define PPO_LANES ppo::kLossLanes
#endif
inline constexpr int kLanes = PPO_LANES;

// A value per lane.
template <typename T>
struct alignas(kLanes == 1 ? alignof(T) : 64) Lane {
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
  PPO_HD double total() const {
    double sum = 0;
    for (double p : part.x) sum += p;
    return sum;
  }
};

// Rows of kLossLanes values in scratch memory: the lanes of this thread in each of them.
template <typename T>
class Rows {
 public:
  Rows() = default;
  PPO_HD explicit Rows(Lane<T>* first) : first_(first) {}

  PPO_HD Lane<T>& operator[](std::ptrdiff_t k) const { return first_[k * (kLossLanes / kLanes)]; }
  PPO_HD explicit operator bool() const { return first_ != nullptr; }

 private:
  Lane<T>* first_ = nullptr;
};

// Hands out pieces of the scratch memory of a call, or of a warp, whose thread `lane` this is.
class Scratch {
 public:
  PPO_HD explicit Scratch(void* memory, int lane = 0)
      : next_(static_cast<char*>(memory)), lane_(lane) {}

  template <typename T>
  PPO_HD Rows<T> rows(std::ptrdiff_t count) {
    Lane<T>* first = reinterpret_cast<Lane<T>*>(next_);
    next_ += count * kLossLanes * static_cast<std::ptrdiff_t>(sizeof(T));
    return Rows<T>(first + lane_);
  }

 private:
  char* next_;
  int lane_;
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

// Zeros for a column that is absent.
template <typename T>
PPO_HD Lane<T> load_lane_or_zero(const Group& g, const View1<const T>& from) {
  return from.data == nullptr ? Lane<T>{} : load_lane(g, from);
}

// Rows [B, columns] of the group, a lane per sample.
template <typename T>
PPO_HD void load_rows(const Group& g, std::ptrdiff_t columns, const View2<const T>& from,
                      const Rows<T>& out) {
  if constexpr (std::is_floating_point_v<T> && kLanes > 1) {
    if (g.contiguous && from.stride_n == 1) {
      transpose(from.data + g.first * from.stride_t, from.stride_t, kLanes, columns, out[0].x,
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
PPO_HD void store_rows(const Group& g, std::ptrdiff_t columns, const Rows<T>& from, T* out) {
  T* to = out + g.first * columns;
  if (kLanes > 1 && g.contiguous) {
    transpose(from[0].x, kLanes, columns, kLanes, to, columns);
    return;
  }
  for (std::ptrdiff_t k = 0; k < columns; ++k) {
    for (int l = 0; l < g.size; ++l) to[l * columns + k] = g.counts[l] ? from[k][l] : T(0);
  }
}

// The same of one column [B].
template <typename T>
PPO_HD void store_lane(const Group& g, Lane<T>& from, T* out) {
  store_rows(g, 1, Rows<T>(&from), out);
}

}  // namespace ppo::inline PPO_ISA
