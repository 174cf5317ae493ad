// Sums along samples, which lie side by side: gradients of biases and of the weights of a narrow layer. The matrix
// product of matmul.h runs along the inputs of a layer instead: a narrow one has too few of them, or wants them
// as rows of samples first, which costs more than the few sums that they are for.
//
// Chain l of a sum is over the samples l, l + 16, ..; chains are added up at last, in one order: results do not
// depend on how wide vectors are.
#pragma once

#include <cstddef>

#include "learner/network.h"
#include "support/transpose.h"
#include "support/vector.h"

namespace ppo::inline PPO_ISA {

// c[m][n][chain] = sum over samples of a[m][sample] b[n][sample]; with `adds`, the sum starts from c.
struct Dots {
  std::ptrdiff_t rows = 0;
  std::ptrdiff_t columns = 0;
  const float* a = nullptr;  // [rows, kBlock]
  const float* b = nullptr;  // [columns, kBlock]
  float* c = nullptr;        // [rows, columns, kChains]
  bool adds = false;
};

// M rows and N columns, in the chains of one vector.
template <int M, int N>
PPO_HD void dots_block(const Dots& d, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t chain) {
  const float* a = d.a + m * kBlock;
  const float* b = d.b + n * kBlock;
  float* c = d.c + (m * d.columns + n) * kChains + chain;
  Vector<float> sum[M][N];
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      sum[i][j] = d.adds ? load(c + (i * d.columns + j) * kChains) : Vector<float>{};
    }
  }
  for (std::ptrdiff_t s = chain; s < kBlock; s += kChains) {
    Vector<float> x[N];
    for (int j = 0; j < N; ++j) x[j] = load(b + j * kBlock + s);
    for (int i = 0; i < M; ++i) {
      const Vector<float> y = load(a + i * kBlock + s);
      for (int j = 0; j < N; ++j) sum[i][j] = multiply_add(y, x[j], sum[i][j]);
    }
  }
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) at(c + (i * d.columns + j) * kChains) = sum[i][j];
  }
}

template <int N>
void dots_columns(const Dots& d, std::ptrdiff_t n) {
  for (std::ptrdiff_t chain = 0; chain < kChains; chain += kVectorSize<float>) {
    std::ptrdiff_t m = 0;
    for (; m + 2 <= d.rows; m += 2) dots_block<2, N>(d, m, n, chain);
    if (m < d.rows) dots_block<1, N>(d, m, n, chain);
  }
}

inline void dots(const Dots& d) {
  std::ptrdiff_t n = 0;
  for (; n + 4 <= d.columns; n += 4) dots_columns<4>(d, n);
  for (; n < d.columns; ++n) dots_columns<1>(d, n);
}

// c[m][chain] = sum over samples of a[m][sample]; with `adds`, the sum starts from c.
inline void add_samples(std::ptrdiff_t rows, const float* a, bool adds, float* c) {
  for (std::ptrdiff_t m = 0; m < rows; ++m, a += kBlock, c += kChains) {
    for (std::ptrdiff_t chain = 0; chain < kChains; chain += kVectorSize<float>) {
      Vector<float> sum = adds ? load(c + chain) : Vector<float>{};
      for (std::ptrdiff_t s = chain; s < kBlock; s += kChains) sum += load(a + s);
      at(c + chain) = sum;
    }
  }
}

// to[r] = all chains of row r of `count` arrays [rows, kChains], which lie `stride` apart.
inline void add_chains(const float* from, std::ptrdiff_t stride, std::ptrdiff_t count,
                       std::ptrdiff_t rows, float* to) {
  constexpr std::ptrdiff_t kRows = 64;
  constexpr std::ptrdiff_t kParts = 4;
  static_assert(kChains == 4 * kParts);
  alignas(64) float chains[kRows * kChains];
  float by_row[kRows * kParts];
  float by_part[kParts * kRows];
  for (std::ptrdiff_t first = 0; first < rows; first += kRows) {
    const std::ptrdiff_t size = rows - first < kRows ? rows - first : kRows;
    for (std::ptrdiff_t i = 0; i < size * kChains; i += kVectorSize<float>) {
      const float* x = from + first * kChains + i;
      Vector<float> sum = load(x);
      for (std::ptrdiff_t c = 1; c < count; ++c) sum += load(x + c * stride);
      at(chains + i) = sum;
    }
    for (std::ptrdiff_t r = 0; r < size; ++r) {
      const float* x = chains + r * kChains;
      for (std::ptrdiff_t p = 0; p < kParts; ++p) {
        by_row[r * kParts + p] = (x[p] + x[p + 4]) + (x[p + 8] + x[p + 12]);
      }
    }
    transpose(by_row, kParts, size, kParts, by_part, kRows);
    for (std::ptrdiff_t r = 0; r < size; ++r) {
      to[first + r] =
          (by_part[r] + by_part[kRows + r]) + (by_part[2 * kRows + r] + by_part[3 * kRows + r]);
    }
  }
}

}  // namespace ppo::inline PPO_ISA
