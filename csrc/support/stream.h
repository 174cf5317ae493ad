// Stores past the caches, for results so large that no cache would keep them until somebody reads
// them. A usual store fetches its cache line first; these write whole lines without, which saves a
// third of the traffic of a loop that reads as much as it writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ppo_fast/host_device.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace ppo::inline PPO_ISA {

inline constexpr std::ptrdiff_t kLineBytes = 64;
template <typename T>
inline constexpr std::ptrdiff_t kLine = kLineBytes / static_cast<std::ptrdiff_t>(sizeof(T));

// Elements that lie between the start of a cache line and `p`.
template <typename T>
std::ptrdiff_t into_line(const T* p) {
  const auto bytes = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(p) % kLineBytes);
  return bytes / static_cast<std::ptrdiff_t>(sizeof(T));
}

// Elements from `p` on that lie before the next start of a cache line; 0 if `p` is one.
template <typename T>
std::ptrdiff_t to_line(const T* p) {
  const std::ptrdiff_t behind = into_line(p);
  return behind == 0 ? 0 : kLine<T> - behind;
}

// Copies the cache line at `from` to the one at `to`, which must start there.
inline void stream_line(void* to, const void* from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_loadu_si512(from));
#elif defined(__AVX__)
  for (int k = 0; k < 2; ++k) {
    _mm256_stream_si256(static_cast<__m256i*>(to) + k,
                        _mm256_loadu_si256(static_cast<const __m256i*>(from) + k));
  }
#elif defined(__SSE2__)
  for (int k = 0; k < 4; ++k) {
    _mm_stream_si128(static_cast<__m128i*>(to) + k,
                     _mm_loadu_si128(static_cast<const __m128i*>(from) + k));
  }
#else
  std::memcpy(to, from, kLineBytes);
#endif
}

// Copies n elements. Whole cache lines go past the caches where `to` starts one.
template <typename T>
void stream(T* to, const T* from, std::ptrdiff_t n) {
  std::ptrdiff_t i = 0;
  if (into_line(to) == 0) {
    for (; i + kLine<T> <= n; i += kLine<T>) stream_line(to + i, from + i);
  }
  for (; i < n; ++i) to[i] = from[i];
}

// Such stores may pass usual ones: call this before anyone is told that they are done.
inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Asks for a cache line that will be read soon.
inline void prefetch(const void* p) {
#if defined(__GNUC__)
  __builtin_prefetch(p);
#else
  static_cast<void>(p);
#endif
}

}  // namespace ppo::inline PPO_ISA
