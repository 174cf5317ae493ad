// The matrix product of the learner. Three products of a layer, forward, to its inputs and to its weights, are
// one: sums of numbers times rows.
//
// Every sum is one chain of fused multiply-adds in the order of k: results depend neither on how wide
// vectors are nor on how the work is cut.
#pragma once

#include <cstddef>

#include "support/vector.h"

namespace ppo::inline PPO_ISA {

// c[m][n] = start[m] + sum_k a(m, k) b[k][n]; with `adds`, the sum starts from c[m][n].
struct Product {
  std::ptrdiff_t rows = 0;     // of c
  std::ptrdiff_t depth = 0;    // terms of a sum
  std::ptrdiff_t columns = 0;  // of c; a multiple of 16
  const float* a = nullptr;    // a(m, k) = a[m * a_row + k * a_step]
  std::ptrdiff_t a_row = 0;
  std::ptrdiff_t a_step = 0;
  const float* b = nullptr;
  std::ptrdiff_t b_row = 0;
  float* c = nullptr;
  std::ptrdiff_t c_row = 0;
  const float* start = nullptr;  // [rows], or null: 0
  bool adds = false;
};

// Sums that the registers hold at a time: kHigh rows of kWide vectors.
constexpr int kWide = 2;
constexpr int kHigh = kVectorBytes == 64 ? 8 : 4;

template <int M, int V>
PPO_HD void product_block(const Product& p, std::ptrdiff_t m, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t kSize = kVectorSize<float>;
  Vector<float> sum[M][V];
  float* c = p.c + m * p.c_row + n;
  for (int i = 0; i < M; ++i) {
    for (int v = 0; v < V; ++v) {
      sum[i][v] = p.adds ? load(c + i * p.c_row + v * kSize)
                         : splat(p.start != nullptr ? p.start[m + i] : 0.0f);
    }
  }
  const float* a[M];
  for (int i = 0; i < M; ++i) a[i] = p.a + (m + i) * p.a_row;
  const float* b = p.b + n;
  for (std::ptrdiff_t k = 0; k < p.depth; ++k) {
    Vector<float> x[V];
    for (int v = 0; v < V; ++v) x[v] = load(b + v * kSize);
    for (int i = 0; i < M; ++i) {
      const Vector<float> factor = splat(a[i][k * p.a_step]);
      for (int v = 0; v < V; ++v) sum[i][v] = multiply_add(factor, x[v], sum[i][v]);
    }
    b += p.b_row;
  }
  for (int i = 0; i < M; ++i) {
    for (int v = 0; v < V; ++v) at(c + i * p.c_row + v * kSize) = sum[i][v];
  }
}

// From row m on: blocks of M rows while there are as many, then of fewer.
template <int M, int V>
void product_rows(const Product& p, std::ptrdiff_t m, std::ptrdiff_t n) {
  for (; m + M <= p.rows; m += M) product_block<M, V>(p, m, n);
  if constexpr (M > 1) {
    if (m < p.rows) product_rows<M / 2, V>(p, m, n);
  }
}

inline void product(const Product& p) {
  constexpr std::ptrdiff_t kSize = kVectorSize<float>;
  std::ptrdiff_t n = 0;
  for (; n + kWide * kSize <= p.columns; n += kWide * kSize) product_rows<kHigh, kWide>(p, 0, n);
  for (; n < p.columns; n += kSize) product_rows<kHigh * kWide, 1>(p, 0, n);
}

}  // namespace ppo::inline PPO_ISA
