// Sums along samples, which lie side by side: gradients of biases and of the weights of a narrow layer. The matrix
// product of matmul.h runs along the inputs of a layer instead: a narrow one has too few of them, or wants them
// as rows of samples first, which costs more than the few sums that they are for.
//
// A block's samples are added up in 16 lanes, l, l + 16, .., and these in kChains, which are added up at last:
// results do not depend on how wide vectors are.
#pragma once

#include <cstddef>
#include <type_traits>

#include "learner/network.h"
#include "support/transpose.h"
#include "support/vector.h"

namespace ppo::inline PPO_ISA {

constexpr std::ptrdiff_t kSumLanes = 16;
constexpr std::ptrdiff_t kSumVectors = kSumLanes / kVectorSize<float>;

// to[p] = lanes p, p + 4, p + 8 and p + 12 of a sum; with `adds`, to + those.
PPO_HD void fold(const Vector<float>* sum, bool adds, float* to) {
  static_assert(kChains == 4 && kSumLanes == 16);
#if defined(__GNUC__)
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
#if defined(__AVX512F__)
  constexpr __mmask8 kAll = 0xf;  // without a mask, GCC 12 warns of what it does not read
  const auto four = [sum](auto k) -> Four {
    return _mm512_maskz_extractf32x4_ps(kAll, sum[0], decltype(k)::value);
  };
  const Four all =
      (four(std::integral_constant<int, 0>()) + four(std::integral_constant<int, 1>())) +
      (four(std::integral_constant<int, 2>()) + four(std::integral_constant<int, 3>()));
#elif defined(__AVX__)
  const auto halves = [](const __m256& x) -> Four {
    return _mm256_castps256_ps128(x) + _mm256_extractf128_ps(x, 1);
  };
  const Four all = halves(sum[0]) + halves(sum[1]);
#else
  const Four all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
#endif
  Four& place = *reinterpret_cast<Four*>(to);
  place = adds ? place + all : all;
#else
  for (std::ptrdiff_t p = 0; p < kChains; ++p) {
    const float all = (sum[p] + sum[p + 4]) + (sum[p + 8] + sum[p + 12]);
    to[p] = adds ? to[p] + all : all;
  }
#endif
}

// c[m][n][chain] = sum over samples of a[m][sample] b[n][sample]; with `adds`, c + the sum.
struct Dots {
  std::ptrdiff_t rows = 0;
  std::ptrdiff_t columns = 0;
  const float* a = nullptr;  // [rows, kBlock]
  const float* b = nullptr;  // [columns, kBlock]
  float* c = nullptr;        // [rows, columns, kChains]
  bool adds = false;
};

template <int M, int N>
PPO_HD void dots_block(const Dots& d, std::ptrdiff_t m, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t kSize = kVectorSize<float>;
  const float* a = d.a + m * kBlock;
  const float* b = d.b + n * kBlock;
  Vector<float> sum[M][N][kSumVectors] = {};
  for (std::ptrdiff_t s = 0; s < kBlock; s += kSumLanes) {
    for (std::ptrdiff_t k = 0; k < kSumVectors; ++k) {
      Vector<float> x[N];
      for (int j = 0; j < N; ++j) x[j] = load(b + j * kBlock + s + k * kSize);
      for (int i = 0; i < M; ++i) {
        const Vector<float> y = load(a + i * kBlock + s + k * kSize);
        for (int j = 0; j < N; ++j) sum[i][j][k] = multiply_add(y, x[j], sum[i][j][k]);
      }
    }
  }
  for (int i = 0; i < M; ++i) {
    for (int j = 0; j < N; ++j) {
      fold(sum[i][j], d.adds, d.c + ((m + i) * d.columns + n + j) * kChains);
    }
  }
}

template <int N>
void dots_columns(const Dots& d, std::ptrdiff_t n) {
  constexpr int M = kSumVectors == 1 ? 2 : 1;  // what the registers hold
  std::ptrdiff_t m = 0;
  for (; m + M <= d.rows; m += M) dots_block<M, N>(d, m, n);
  if (m < d.rows) dots_block<1, N>(d, m, n);
}

inline void dots(const Dots& d) {
  std::ptrdiff_t n = 0;
  for (; n + 4 <= d.columns; n += 4) dots_columns<4>(d, n);
  for (; n < d.columns; ++n) dots_columns<1>(d, n);
}

// c[m][chain] = sum over samples of a[m][sample]; with `adds`, c + the sum.
inline void add_samples(std::ptrdiff_t rows, const float* a, bool adds, float* c) {
  constexpr std::ptrdiff_t kSize = kVectorSize<float>;
  for (std::ptrdiff_t m = 0; m < rows; ++m, a += kBlock, c += kChains) {
    Vector<float> sum[kSumVectors];
    for (std::ptrdiff_t k = 0; k < kSumVectors; ++k) {
      sum[k] = load(a + k * kSize);
      for (std::ptrdiff_t s = kSumLanes; s < kBlock; s += kSumLanes) {
        sum[k] += load(a + s + k * kSize);
      }
    }
    fold(sum, adds, c);
  }
}

// to[r] = all chains of row r of `count` arrays [rows, kChains], which lie `stride` apart.
inline void add_chains(const float* from, std::ptrdiff_t stride, std::ptrdiff_t count,
                       std::ptrdiff_t rows, float* to) {
  constexpr std::ptrdiff_t kRows = 64;
  float by_row[kRows * kChains];
  float by_chain[kChains * kRows];
  for (std::ptrdiff_t first = 0; first < rows; first += kRows) {
    const std::ptrdiff_t size = rows - first < kRows ? rows - first : kRows;
    const float* x = from + first * kChains;
    PPO_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < size * kChains; ++i) by_row[i] = x[i];
    for (std::ptrdiff_t c = 1; c < count; ++c) {
      x += stride;
      PPO_INDEPENDENT
      for (std::ptrdiff_t i = 0; i < size * kChains; ++i) by_row[i] += x[i];
    }
    transpose(by_row, kChains, size, kChains, by_chain, kRows);
    PPO_INDEPENDENT
    for (std::ptrdiff_t r = 0; r < size; ++r) {
      to[first + r] =
          (by_chain[r] + by_chain[kRows + r]) + (by_chain[2 * kRows + r] + by_chain[3 * kRows + r]);
    }
  }
}

}  // namespace ppo::inline PPO_ISA
