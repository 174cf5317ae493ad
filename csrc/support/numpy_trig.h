// np.cos and np.sin of a float32 in [-pi/4, pi/4], bit for bit: NumPy has polynomials of its own
// there, which differ from the C library's cosf and sinf for one argument in five or ten.
// Coefficients: numpy/_core/src/umath/loops_trigonometric (2.0 to 2.4), evaluated with FMA.
#pragma once

#include <cmath>

#include "ppo_fast/host_device.h"

namespace ppo::inline PPO_ISA {

PPO_HD float numpy_cos_small(float x) {
  const float z = x * x;
  float r = std::fma(0x1.98e616p-16f, z, -0x1.6c06dcp-10f);
  r = std::fma(r, z, 0x1.55553cp-05f);
  r = std::fma(r, z, -0.5f);
  return std::fma(r, z, 1.0f);
}

PPO_HD float numpy_sin_small(float x) {
  const float z = x * x;
  float r = std::fma(0x1.7d3bbcp-19f, z, -0x1.a06bbap-13f);
  r = std::fma(r, z, 0x1.11119ap-07f);
  r = std::fma(r, z, -0x1.555556p-03f);
  return std::fma(r * z, x, x);
}

// Any float32: reduced by a multiple of pi/2 in three steps. Beyond these ranges NumPy asks the C
// library.
PPO_HD float numpy_trig(float x, int quarter) {
  const float magic = 0x1.8p23f;
  const float quadrant = (x * 0x1.45f306p-1f + magic) - magic;
  float r = std::fma(quadrant, -0x1.921fb0p+00f, x);
  r = std::fma(quadrant, -0x1.5110b4p-22f, r);
  r = std::fma(quadrant, -0x1.846988p-48f, r);
  const int k = static_cast<int>(quadrant) + quarter;
  const float value = (k & 1) != 0 ? numpy_cos_small(r) : numpy_sin_small(r);
  return (k & 2) != 0 ? 0.0f - value : value;
}

PPO_HD float numpy_sin(float x) {
  return std::fabs(x) <= 117435.992f ? numpy_trig(x, 0) : std::sin(x);
}

PPO_HD float numpy_cos(float x) {
  return std::fabs(x) <= 71476.0625f ? numpy_trig(x, 1) : std::cos(x);
}

}  // namespace ppo::inline PPO_ISA
