// exp, log and what is made of them without branches or tables, so that a loop over samples vectorises and every
// instruction set gives the same bits. float is within 2 ulp of the true value, far below the noise
// of a float32 softmax; double calls the C library.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "ppo_fast/host_device.h"

namespace ppo::inline PPO_ISA::math {

// exp(x): 0 below -87.3 (the subnormal range), infinity above 88. NaN stays NaN.
PPO_HD float exp(float x) {
  constexpr float kLowest = -87.3f;
  constexpr float kHighest = 88.0f;
  // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the mantissa.
  constexpr float kRound = 12582912.0f;
  const float limited = x < kLowest ? kLowest : (x > kHighest ? kHighest : x);
  const float shifted = limited * 1.44269504f + kRound;
  const float n = shifted - kRound;
  // log(2) in two parts; the first has so few bits that n * 0.693359375f is exact.
  const float r = (limited - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = (p * r) * r + r;
  const std::int32_t exponent =
      std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kRound);
  const float scale = std::bit_cast<float>((exponent + 127) << 23);
  const float value = (p + 1.0f) * scale;
  const float above = x > kHighest ? std::numeric_limits<float>::infinity() : value;
  return x < kLowest ? 0.0f : above;
}

// log(x) of a positive, finite, normal x.
PPO_HD float log(float x) {
  // x = m * 2^e with m in [sqrt(1/2), sqrt(2)), then log(m) = 2 atanh((m - 1) / (m + 1)).
  constexpr std::int32_t kSqrtHalf = 0x3f3504f3;
  const std::int32_t bits = std::bit_cast<std::int32_t>(x);
  const std::int32_t e = (bits - kSqrtHalf) >> 23;
  const float m = std::bit_cast<float>(bits - (e << 23));
  const float s = (m - 1.0f) / (m + 1.0f);
  const float z = s * s;
  float p = 2.0f / 9;
  p = p * z + 2.0f / 7;
  p = p * z + 2.0f / 5;
  p = p * z + 2.0f / 3;
  const float n = static_cast<float>(e);
  return n * 0.693359375f + (2.0f * s + (s * z * p + n * -2.12194440e-4f));
}

// log(1 + x) of 0 <= x <= 1, which is what softplus needs: 2 atanh(x / (2 + x)).
PPO_HD float log1p(float x) {
  const float s = x / (2.0f + x);
  const float z = s * s;
  float p = 2.0f / 15;
  p = p * z + 2.0f / 13;
  p = p * z + 2.0f / 11;
  p = p * z + 2.0f / 9;
  p = p * z + 2.0f / 7;
  p = p * z + 2.0f / 5;
  p = p * z + 2.0f / 3;
  return 2.0f * s + s * z * p;
}

PPO_HD double exp(double x) { return std::exp(x); }
PPO_HD double log(double x) { return std::log(x); }
PPO_HD double log1p(double x) { return std::log1p(x); }

template <typename T>
PPO_HD T abs(T x) {
  return x < T(0) ? -x : x;
}

// log(1 + exp(x)), also where exp(x) would overflow.
template <typename T>
PPO_HD T softplus(T x) {
  return (x > T(0) ? x : T(0)) + log1p(exp(-abs(x)));
}

// exp(x) - 1 - x, given exp(x). Near 0 the difference would cancel, so there it is its series.
template <typename T>
PPO_HD T exp_less_line(T x, T exp_x) {
  T p = T(1.0 / 40320);
  p = p * x + T(1.0 / 5040);
  p = p * x + T(1.0 / 720);
  p = p * x + T(1.0 / 120);
  p = p * x + T(1.0 / 24);
  p = p * x + T(1.0 / 6);
  p = p * x + T(0.5);
  const T near_zero = p * x * x;
  const T elsewhere = (exp_x - T(1)) - x;
  const bool is_near = (x > T(-0.0625)) & (x < T(0.0625));
  return is_near ? near_zero : elsewhere;
}

}  // namespace ppo::inline PPO_ISA::math
