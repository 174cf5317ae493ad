// Transposes of small tiles, 4 x 4 at a time in registers where the compiler knows vectors.
#pragma once

#include <cstddef>

#include "ppo_fast/host_device.h"

namespace ppo::inline PPO_ISA {

// to[c * to_stride + r] = from[r * from_stride + c] for r < rows, c < columns.
template <typename T>
PPO_HD void transpose_plain(const T* from, std::ptrdiff_t from_stride, std::ptrdiff_t rows,
                            std::ptrdiff_t columns, T* to, std::ptrdiff_t to_stride) {
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    for (std::ptrdiff_t c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

// __builtin_shufflevector
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12 && !defined(__CUDACC__))
PPO_HD void transpose4x4(const float* from, std::ptrdiff_t from_stride, float* to,
                         std::ptrdiff_t to_stride) {
  typedef float Vector __attribute__((vector_size(16), aligned(4)));
  const auto row = [&](std::ptrdiff_t r) {
    return *reinterpret_cast<const Vector*>(from + r * from_stride);
  };
  const Vector a = row(0), b = row(1), c = row(2), d = row(3);
  const Vector ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Vector ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Vector cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Vector cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const auto put = [&](std::ptrdiff_t r, Vector v) {
    *reinterpret_cast<Vector*>(to + r * to_stride) = v;
  };
  put(0, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
  put(1, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
  put(2, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  put(3, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

PPO_HD void transpose4x4(const double* from, std::ptrdiff_t from_stride, double* to,
                         std::ptrdiff_t to_stride) {
  typedef double Vector __attribute__((vector_size(16), aligned(8)));
  for (std::ptrdiff_t r = 0; r < 4; r += 2) {
    for (std::ptrdiff_t c = 0; c < 4; c += 2) {
      const Vector a = *reinterpret_cast<const Vector*>(from + r * from_stride + c);
      const Vector b = *reinterpret_cast<const Vector*>(from + (r + 1) * from_stride + c);
      double* corner = to + c * to_stride + r;
      *reinterpret_cast<Vector*>(corner) = __builtin_shufflevector(a, b, 0, 2);
      *reinterpret_cast<Vector*>(corner + to_stride) = __builtin_shufflevector(a, b, 1, 3);
    }
  }
}

template <typename T>
PPO_HD void transpose(const T* from, std::ptrdiff_t from_stride, std::ptrdiff_t rows,
                      std::ptrdiff_t columns, T* to, std::ptrdiff_t to_stride) {
  const std::ptrdiff_t whole_rows = rows / 4 * 4;
  const std::ptrdiff_t whole_columns = columns / 4 * 4;
  for (std::ptrdiff_t r = 0; r < whole_rows; r += 4) {
    for (std::ptrdiff_t c = 0; c < whole_columns; c += 4) {
      transpose4x4(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
    }
  }
  transpose_plain(from + whole_columns, from_stride, whole_rows, columns - whole_columns,
                  to + whole_columns * to_stride, to_stride);
  transpose_plain(from + whole_rows * from_stride, from_stride, rows - whole_rows, columns,
                  to + whole_rows, to_stride);
}
#else
template <typename T>
PPO_HD void transpose(const T* from, std::ptrdiff_t from_stride, std::ptrdiff_t rows,
                      std::ptrdiff_t columns, T* to, std::ptrdiff_t to_stride) {
  transpose_plain(from, from_stride, rows, columns, to, to_stride);
}
#endif

}  // namespace ppo::inline PPO_ISA
