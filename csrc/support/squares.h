// x ** 2 as NumPy scalars and Python compute it: pow(x, 2) of the C library, whose result differs
// from x * x about one time in a thousand.
//
// It cannot where x * x was rounded by clearly less than half an ulp. glibc bounds the error of pow by
// 0.509 ulp + 0.029 ulp |y ln x| / 710, which is below 0.52 for 1e-50 < |x| < 1e50, and that of powf by
// 0.5 ulp + 0.32 ulp |y log2 x| / 126, below 0.55 for 2^-8 < |x| < 2^8. So the C library is asked for
// the few squares that lie near the midpoint of two numbers, and for those outside these ranges.
#pragma once

#include <math.h>

#include <cmath>

#include "ppo_fast/host_device.h"
#include "support/sincos.h"

namespace ppo::inline PPO_ISA {

// Through pointers, because compilers turn pow(x, 2) into x * x.
inline double (*const volatile kPow)(double, double) = &::pow;
inline float (*const volatile kPowFloat)(float, float) = &::powf;

PPO_HD double square(double x) {
  const double product = x * x;
  const double rounded_by = std::fma(x, x, -product);
  const bool is_usual = product > 1e-100 && product < 1e100;
  if (is_usual && std::fabs(rounded_by) <= 0.48 * ulp(product)) return product;
#if defined(__CUDA_ARCH__)
  return product;  // CUDA's pow has other bits anyway
#else
  return kPow(x, 2.0);
#endif
}

PPO_HD float square(float x) {
  const double exact = static_cast<double>(x) * x;
  const float product = static_cast<float>(exact);
  const bool is_usual = exact > 0x1p-16 && exact < 0x1p16;
  if (is_usual && std::fabs(exact - product) <= 0.45 * 0x1p29 * ulp(exact)) return product;
#if defined(__CUDA_ARCH__)
  return product;
#else
  return kPowFloat(x, 2.0f);
#endif
}

}  // namespace ppo::inline PPO_ISA
