// Vectors of the width of the instruction set, where the compiler knows vectors; else numbers, with
// the same code around them. For the loops that compilers fail to vectorise.
#pragma once

#include <cstddef>

#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "ppo_fast/host_device.h"

// Before a loop whose iterations are independent: what they write, no other one reads.
#if defined(__clang__)
#define PPO_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define PPO_INDEPENDENT _Pragma("GCC ivdep")
#else
#define PPO_INDEPENDENT
#endif

namespace ppo::inline PPO_ISA {

#if defined(__GNUC__)
#if defined(__AVX512F__)
inline constexpr std::ptrdiff_t kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr std::ptrdiff_t kVectorBytes = 32;
#else
inline constexpr std::ptrdiff_t kVectorBytes = 16;
#endif
template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
  static constexpr std::ptrdiff_t kSize = kVectorBytes / static_cast<std::ptrdiff_t>(sizeof(T));
};
#else
template <typename T>
struct VectorOf {
  using Type = T;
  static constexpr std::ptrdiff_t kSize = 1;
};
#endif

template <typename T>
using Vector = typename VectorOf<T>::Type;
template <typename T>
inline constexpr std::ptrdiff_t kVectorSize = VectorOf<T>::kSize;

template <typename T>
PPO_HD const Vector<T>& load(const T* from) {
  return *reinterpret_cast<const Vector<T>*>(from);
}
// kVectorSize<double> numbers as doubles.
template <typename T>
PPO_HD Vector<double> load_double(const T* from) {
#if defined(__GNUC__)
  typedef T Narrow
      __attribute__((vector_size(kVectorSize<double> * sizeof(T)), aligned(alignof(T)), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Narrow*>(from), Vector<double>);
#else
  return static_cast<double>(*from);
#endif
}
template <typename T>
PPO_HD Vector<T>& at(T* to) {
  return *reinterpret_cast<Vector<T>*>(to);
}

// x in every lane.
PPO_HD Vector<float> splat(float x) { return x - Vector<float>{}; }

// a * b + c, rounded once where the instruction set can.
PPO_HD Vector<float> multiply_add(const Vector<float>& a, const Vector<float>& b,
                                  const Vector<float>& c) {
#if defined(__GNUC__) && defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__GNUC__) && defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// x, or the bound beyond which it is; a NaN stays one.
PPO_HD Vector<float> limited(const Vector<float>& x, float low, float high) {
#if defined(__GNUC__) && defined(__AVX512F__)
  constexpr __mmask16 kAll = 0xffff;  // without a mask, GCC 12 warns of what it does not read
  return _mm512_maskz_min_ps(kAll, splat(high), _mm512_maskz_max_ps(kAll, splat(low), x));
#elif defined(__GNUC__) && defined(__FMA__)
  return _mm256_min_ps(splat(high), _mm256_max_ps(splat(low), x));
#else
  const Vector<float> above = x < splat(low) ? splat(low) : x;
  return above > splat(high) ? splat(high) : above;
#endif
}

}  // namespace ppo::inline PPO_ISA
