// Runs: stretches of a [T, N] array that a kernel handles as one flat loop.
//
// A span is `steps` rows of `columns` columns; its elements are counted row by row. Where an array
// holds them side by side, a run is a pointer into it; where it does not, they are gathered into
// scratch memory first. So the arithmetic sees unit strides only, whatever the layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "advantage/arguments.h"
#include "support/stream.h"
#include "support/view.h"

namespace ppo::inline PPO_ISA {


struct Span {
  std::ptrdiff_t t;
  std::ptrdiff_t steps;
  std::ptrdiff_t n;
  std::ptrdiff_t columns;

  PPO_HD std::ptrdiff_t size() const { return steps * columns; }
};

// Whether the elements of a span lie side by side.
PPO_HD bool is_flat(std::ptrdiff_t stride_t, std::ptrdiff_t stride_n, const Span& s) {
  if (s.columns == 1) return stride_t == 1 || s.steps == 1;
  return stride_n == 1 && (s.steps == 1 || stride_t == s.columns);
}

// The run of a span of a view; `absent` where there is no view.
template <typename T>
const T* fetch(const View2<const T>& view, const Span& s, T* scratch, const T* absent) {
  if (!view) return absent;
  const T* first = view.data + s.t * view.stride_t + s.n * view.stride_n;
  if (is_flat(view.stride_t, view.stride_n, s)) return first;
  T* to = scratch;
  for (std::ptrdiff_t t = 0; t < s.steps; ++t, first += view.stride_t) {
    for (std::ptrdiff_t n = 0; n < s.columns; ++n) *to++ = first[n * view.stride_n];
  }
  return scratch;
}

template <typename Flag>
const std::uint8_t* gather_flags(const FlagView& view, const Span& s, std::uint8_t* scratch) {
  const auto* first = static_cast<const Flag*>(view.data) + s.t * view.stride_t;
  std::uint8_t* to = scratch;
  for (std::ptrdiff_t t = 0; t < s.steps; ++t, first += view.stride_t) {
    for (std::ptrdiff_t n = s.n; n < s.n + s.columns; ++n) {
      *to++ = first[n * view.stride_n] != Flag(0);
    }
  }
  return scratch;
}

inline const std::uint8_t* fetch_flags(const FlagView& view, const Span& s, std::uint8_t* scratch,
                                       const std::uint8_t* absent) {
  if (!view) return absent;
  switch (view.type) {
    case FlagType::kFloat: return gather_flags<float>(view, s, scratch);
    case FlagType::kDouble: return gather_flags<double>(view, s, scratch);
    case FlagType::kByte: break;
  }
  if (is_flat(view.stride_t, view.stride_n, s)) {
    return static_cast<const std::uint8_t*>(view.data) + s.t * view.stride_t + s.n * view.stride_n;
  }
  return gather_flags<std::uint8_t>(view, s, scratch);
}

// Where a run of results may be written at once; null where `put` has to distribute it.
template <typename T>
T* flat_output(const View2<T>& view, const Span& s, bool streaming) {
  if (streaming || !is_flat(view.stride_t, view.stride_n, s)) return nullptr;
  return view.data + s.t * view.stride_t + s.n * view.stride_n;
}

// Writes a run into a span of a view.
template <typename T>
void put(const View2<T>& view, const Span& s, const T* run, bool streaming) {
  T* first = view.data + s.t * view.stride_t + s.n * view.stride_n;
  if (is_flat(view.stride_t, view.stride_n, s)) {
    if (streaming) {
      stream(run, s.size(), first);
    } else if (run != first) {
      std::memcpy(first, run, static_cast<std::size_t>(s.size()) * sizeof(T));
    }
    return;
  }
  for (std::ptrdiff_t t = 0; t < s.steps; ++t, first += view.stride_t) {
    for (std::ptrdiff_t n = 0; n < s.columns; ++n) first[n * view.stride_n] = *run++;
  }
}

}  // namespace ppo::inline PPO_ISA
