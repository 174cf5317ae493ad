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
  int size;  // to be read by lanes()
  std::ptrdiff_t row[kLanes];
  bool counts[kLanes];
  bool contiguous;  // the rows are kLanes neighbours

  // Those with a sample of their own. A lone lane has one: as the compiler knows it, a GPU keeps groups in registers.
  PPO_HD int lanes() const { return kLanes == 1 ? 1 : size; }
};

// The group of samples from `first` on, all of which count.
PPO_HD Group whole_group(std::ptrdiff_t first, std::ptrdiff_t batch) {
  Group g;
  g.first = first;
  g.size = batch - first < kLanes ? static_cast<int>(batch - first) : kLanes;
  g.contiguous = g.lanes() == kLanes;
  for (int l = 0; l < kLanes; ++l) {
    g.counts[l] = l < g.lanes();
    g.row[l] = first + (l < g.lanes() ? l : g.lanes() - 1);
  }
  return g;
}

// The first sample of the group whose lane is 0, or -1.
PPO_HD std::ptrdiff_t first_impossible(const Group& g, const Lane<int>& possible) {
  int all = 1;
  for (int l = 0; l < kLanes; ++l) all &= possible[l];
  if (all != 0) return -1;
  int l = 0;
  while (l < kLanes - 1 && possible[l] != 0) ++l;
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

// Hands out pieces of the scratch memory of a call, or of a warp, whose thread `lane` this is.
class Scratch {
 public:
  PPO_HD explicit Scratch(void* memory, int lane = 0)
      : next_(static_cast<char*>(memory)), lane_(lane) {}

  // Rows of kLossLanes values: where those of this thread are in the first.
  template <typename T>
  PPO_HD Lane<T>* rows(std::ptrdiff_t count) {
    Lane<T>* first = reinterpret_cast<Lane<T>*>(next_);
    next_ += count * kLossLanes * static_cast<std::ptrdiff_t>(sizeof(T));
    return first + lane_;
  }

 private:
  char* next_;
  int lane_;
};

// What a head keeps of its group: columns of a value per lane. kMost 0: any number of them, in scratch memory, where a row
// has kLossLanes values, of which these are this thread's. Else at most kMost, in the registers of a GPU's thread.
template <typename T, int kMost = 0>
class Columns {
 public:
  Columns() = default;
  PPO_HD Columns(Scratch&, std::ptrdiff_t) {}

  // Registers have no addresses: k has to be known when this is compiled, as it is in each_column.
  PPO_HD Lane<T>& operator[](std::ptrdiff_t k) { return items_[k]; }
  PPO_HD const Lane<T>& operator[](std::ptrdiff_t k) const { return items_[k]; }
  // Of any column.
  PPO_HD T at(std::ptrdiff_t k, int l) const {
    T x = items_[0][l];
    PPO_UNROLL
    for (int j = 1; j < kMost; ++j) x = j == k ? items_[j][l] : x;
    return x;
  }

 private:
  Lane<T> items_[kMost] = {};
};
template <typename T>
class Columns<T, 0> {
 public:
  Columns() = default;
  PPO_HD Columns(Scratch& scratch, std::ptrdiff_t count) : first_(scratch.rows<T>(count)) {}

  PPO_HD Lane<T>& operator[](std::ptrdiff_t k) const { return first_[k * (kLossLanes / kLanes)]; }
  PPO_HD T at(std::ptrdiff_t k, int l) const { return (*this)[k][l]; }

 private:
  Lane<T>* first_ = nullptr;
};

// Calls body(k) for the columns begin <= k < end.
template <int kMost, typename Body>
PPO_HD void each_column(std::ptrdiff_t begin, std::ptrdiff_t end, const Body& body) {
  if constexpr (kMost == 0) {
    for (std::ptrdiff_t k = begin; k < end; ++k) body(k);
  } else {
    PPO_UNROLL
    for (int k = 0; k < kMost; ++k) {
      if (k >= begin && k < end) body(k);
    }
  }
}

// weight * derivative, where a derivative without weight may be infinite.
template <typename T>
PPO_HD T weighted(T weight, T derivative) {
  return weight == T(0) ? T(0) : weight * derivative;
}

// The elements of a column [B] that belong to the group.
template <typename T>
PPO_HD Lane<std::remove_const_t<T>> load_lane(const Group& g, const View1<T>& from) {
  Lane<std::remove_const_t<T>> result;
  if constexpr (kLanes == 1) {
    result[0] = from[g.row[0]];
    return result;
  }
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
template <typename T, int kMost>
PPO_HD void load_rows(const Group& g, std::ptrdiff_t columns, const View2<const T>& from,
                      Columns<T, kMost>& out) {
  if constexpr (std::is_floating_point_v<T> && kLanes > 1) {
    if (g.contiguous && from.stride_n == 1) {
      transpose(from.data + g.first * from.stride_t, from.stride_t, kLanes, columns, out[0].x,
                kLanes);
      return;
    }
  }
  each_column<kMost>(0, columns, [&](std::ptrdiff_t k) {
    out[k] = load_lane(g, View1<const T>{from.data + k * from.stride_n, from.stride_t});
  });
}

// Back to rows [B, columns] of a result; 0 where samples do not count.
template <typename T, int kMost>
PPO_HD void store_rows(const Group& g, std::ptrdiff_t columns, const Columns<T, kMost>& from,
                       T* out) {
  T* to = out + g.first * columns;
  if constexpr (kLanes > 1) {
    if (g.contiguous) {
      transpose(from[0].x, kLanes, columns, kLanes, to, columns);
      return;
    }
  }
  each_column<kMost>(0, columns, [&](std::ptrdiff_t k) {
    for (int l = 0; l < g.lanes(); ++l) to[l * columns + k] = g.counts[l] ? from[k][l] : T(0);
  });
}

// The same of one column [B].
template <typename T>
PPO_HD void store_lane(const Group& g, const Lane<T>& from, T* out) {
  if (kLanes > 1 && g.contiguous) {
    for (int l = 0; l < kLanes; ++l) out[g.first + l] = from[l];
    return;
  }
  for (int l = 0; l < g.lanes(); ++l) out[g.first + l] = g.counts[l] ? from[l] : T(0);
}

}  // namespace ppo::inline PPO_ISA
