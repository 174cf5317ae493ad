// exp and log without branches or tables, so that a loop over samples vectorises and every
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

PPO_HD double exp(double x) { return std::exp(x); }
PPO_HD double log(double x) { return std::log(x); }

}  // namespace ppo::inline PPO_ISA::math
