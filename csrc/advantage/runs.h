// Runs: stretches of a [T, N] array that a kernel handles as one flat loop.
//
// A span is `steps` steps of `columns` columns, its elements counted step by step (time-major) or
// column by column (batch-major). Where an array holds them side by side in that order, a run is a
// pointer into it; where it does not, they are gathered into scratch memory first. So the arithmetic
// sees unit strides only, whatever the layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "advantage/arguments.h"
#include "support/view.h"

namespace ppo::inline PPO_ISA {

enum class Order { kStepByStep, kColumnByColumn };

struct Span {
  std::ptrdiff_t t;
  std::ptrdiff_t steps;
  std::ptrdiff_t n;
  std::ptrdiff_t columns;
  Order order = Order::kStepByStep;

  PPO_HD std::ptrdiff_t size() const { return steps * columns; }
};

// A span as its outer and inner loop, with the strides of a view along them.
struct Loops {
  std::ptrdiff_t outer;
  std::ptrdiff_t inner;
  std::ptrdiff_t outer_stride;
  std::ptrdiff_t inner_stride;

  PPO_HD Loops(const Span& s, std::ptrdiff_t stride_t, std::ptrdiff_t stride_n) {
    const bool by_step = s.order == Order::kStepByStep && s.columns > 1;
    outer = by_step ? s.steps : s.columns;
    inner = by_step ? s.columns : s.steps;
    outer_stride = by_step ? stride_t : stride_n;
    inner_stride = by_step ? stride_n : stride_t;
  }
  PPO_HD bool is_flat() const {
    return (inner == 1 || inner_stride == 1) && (outer == 1 || outer_stride == inner);
  }
};

template <typename T>
PPO_HD T* start_of(const View2<T>& view, const Span& s) {
  return view.data + s.t * view.stride_t + s.n * view.stride_n;
}

// Copies a span of a view to `to`.
template <typename T>
void gather(const View2<const T>& view, const Span& s, T* to) {
  const Loops loops(s, view.stride_t, view.stride_n);
  const T* from = start_of(view, s);
  for (std::ptrdiff_t i = 0; i < loops.outer; ++i, from += loops.outer_stride, to += loops.inner) {
    if (loops.inner_stride == 1) {
      std::memcpy(to, from, static_cast<std::size_t>(loops.inner) * sizeof(T));
    } else {
      for (std::ptrdiff_t k = 0; k < loops.inner; ++k) to[k] = from[k * loops.inner_stride];
    }
  }
}

// The run of a span of a view; `absent` where there is no view.
template <typename T>
const T* fetch(const View2<const T>& view, const Span& s, T* scratch, const T* absent) {
  if (!view) return absent;
  if (Loops(s, view.stride_t, view.stride_n).is_flat()) return start_of(view, s);
  gather(view, s, scratch);
  return scratch;
}

template <typename Flag>
void gather_flags(const FlagView& view, const Span& s, std::uint8_t* to) {
  const Loops loops(s, view.stride_t, view.stride_n);
  const auto* from =
      static_cast<const Flag*>(view.data) + s.t * view.stride_t + s.n * view.stride_n;
  for (std::ptrdiff_t i = 0; i < loops.outer; ++i, from += loops.outer_stride, to += loops.inner) {
    for (std::ptrdiff_t k = 0; k < loops.inner; ++k)
      to[k] = from[k * loops.inner_stride] != Flag(0);
  }
}

// Writes 0 or 1 for each flag of a span.
inline void gather(const FlagView& view, const Span& s, std::uint8_t* to) {
  switch (view.type) {
    case FlagType::kByte:
      return gather_flags<std::uint8_t>(view, s, to);
    case FlagType::kInt32:
      return gather_flags<std::int32_t>(view, s, to);
    case FlagType::kInt64:
      return gather_flags<std::int64_t>(view, s, to);
    case FlagType::kFloat:
      return gather_flags<float>(view, s, to);
    case FlagType::kDouble:
      return gather_flags<double>(view, s, to);
  }
}

// The run of a span of flags, where anything but 0 is set.
inline const std::uint8_t* fetch(const FlagView& view, const Span& s, std::uint8_t* scratch,
                                 const std::uint8_t* absent) {
  if (!view) return absent;
  if (view.type == FlagType::kByte && Loops(s, view.stride_t, view.stride_n).is_flat()) {
    return static_cast<const std::uint8_t*>(view.data) + s.t * view.stride_t + s.n * view.stride_n;
  }
  gather(view, s, scratch);
  return scratch;
}

// Where a run of results may be written at once; null where `put` has to distribute it.
template <typename T>
T* flat_output(const View2<T>& view, const Span& s) {
  return Loops(s, view.stride_t, view.stride_n).is_flat() ? start_of(view, s) : nullptr;
}

// Writes a run into a span of a view.
template <typename T>
void put(const View2<T>& view, const Span& s, const T* run) {
  const Loops loops(s, view.stride_t, view.stride_n);
  T* to = start_of(view, s);
  if (loops.is_flat()) {
    std::memcpy(to, run, static_cast<std::size_t>(s.size()) * sizeof(T));
    return;
  }
  for (std::ptrdiff_t i = 0; i < loops.outer; ++i, to += loops.outer_stride, run += loops.inner) {
    if (loops.inner_stride == 1) {
      std::memcpy(to, run, static_cast<std::size_t>(loops.inner) * sizeof(T));
    } else {
      for (std::ptrdiff_t k = 0; k < loops.inner; ++k) to[k * loops.inner_stride] = run[k];
    }
  }
}

}  // namespace ppo::inline PPO_ISA
