// Copies that go around the caches: the line that is written need not be read first, which saves a
// third of the traffic of a large result. fence() must follow before another thread reads it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "support/host_device.h"

namespace ppo::inline PPO_ISA {

#if defined(__SSE2__)
template <typename T>
PPO_HD void stream(const T* from, std::ptrdiff_t size, T* to) {
  constexpr std::ptrdiff_t kLine = 64 / static_cast<std::ptrdiff_t>(sizeof(T));
  const auto misaligned = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(to) % 64);
  std::ptrdiff_t head =
      misaligned ? kLine - misaligned / static_cast<std::ptrdiff_t>(sizeof(T)) : 0;
  head = head < size ? head : size;
  for (std::ptrdiff_t i = 0; i < head; ++i) to[i] = from[i];
  std::ptrdiff_t i = head;
  for (; i + kLine <= size; i += kLine) {
    const char* source = reinterpret_cast<const char*>(from + i);
    char* target = reinterpret_cast<char*>(to + i);
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target), _mm512_loadu_si512(source));
#elif defined(__AVX__)
    for (int k = 0; k < 64; k += 32) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(target + k),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + k)));
    }
#else
    for (int k = 0; k < 64; k += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(target + k),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + k)));
    }
#endif
  }
  for (; i < size; ++i) to[i] = from[i];
}
PPO_HD void fence() { _mm_sfence(); }
#else
template <typename T>
PPO_HD void stream(const T* from, std::ptrdiff_t size, T* to) {
  std::memcpy(to, from, static_cast<std::size_t>(size) * sizeof(T));
}
PPO_HD void fence() {}
#endif

}  // namespace ppo::inline PPO_ISA
