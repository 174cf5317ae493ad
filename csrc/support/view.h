// Strided views: a pointer and strides counted in elements. They own nothing and check nothing; the
// bindings (support/arrays.h) check shapes before a view is made. Any stride works, negative ones
// too.
#pragma once

#include <cstddef>

#include "ppo_fast/host_device.h"

namespace ppo {

// One row or column: x[i].
template <typename T>
struct View1 {
  T* data = nullptr;
  std::ptrdiff_t stride = 1;

  PPO_HD T& operator[](std::ptrdiff_t i) const { return data[i * stride]; }
};

// A [T, N] array, time first: x(t, n). A null view (data == nullptr) stands for an absent argument.
template <typename T>
struct View2 {
  T* data = nullptr;
  std::ptrdiff_t stride_t = 0;
  std::ptrdiff_t stride_n = 1;

  PPO_HD T& operator()(std::ptrdiff_t t, std::ptrdiff_t n) const {
    return data[t * stride_t + n * stride_n];
  }
  PPO_HD explicit operator bool() const { return data != nullptr; }
};

}  // namespace ppo
